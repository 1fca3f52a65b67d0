"""Hosts of the test's own: network namespaces with an address each, on one link."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

LINK = "eth0"


@dataclass(frozen=True)
class Host:
    """A namespace and its address."""

    name: str
    address: str

    @property
    def within(self) -> list[str]:
        """The command that runs another on this host."""
        return ["ip", "netns", "exec", self.name]


@contextlib.contextmanager
def two() -> Iterator[tuple[Host, Host]]:
    """Offer two hosts that reach each other and nobody else."""
    first, second = (Host(f"mw{os.getpid()}-{n}", f"10.99.0.{n}") for n in (1, 2))
    try:
        for host in (first, second):
            if subprocess.run(["ip", "netns", "add", host.name]).returncode:
                pytest.skip("network namespaces are refused here")
        _ip("link", "add", LINK, "netns", first.name, "type", "veth",
            "peer", "name", LINK, "netns", second.name)  # fmt: skip
        for host in (first, second):
            _ip("-netns", host.name, "address", "add", f"{host.address}/24", "dev", LINK)
            for link in ("lo", LINK):
                _ip("-netns", host.name, "link", "set", link, "up")
        yield first, second
    finally:
        for host in (first, second):
            subprocess.run(["ip", "netns", "delete", host.name], stderr=subprocess.DEVNULL)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)
