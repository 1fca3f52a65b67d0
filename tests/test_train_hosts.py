"""Training on two hosts of their own addresses, by torchrun, for real; one of them dies."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.services import hosts
from tests.services.hosts import Host
from tests.training import Bench, recipe, trainers, wait


@pytest.fixture
def nodes() -> Iterator[tuple[Host, Host]]:
    with hosts.two() as made:
        yield made


@contextlib.contextmanager
def invited(line: str, host: Host) -> Iterator[subprocess.Popen[bytes]]:
    """Start on another host what the build on the first one says, and end it."""
    command = line.replace("NODE_RANK=...", "NODE_RANK=1")
    environ = {"PATH": os.environ["PATH"], "GLOO_SOCKET_IFNAME": hosts.LINK}
    child = subprocess.Popen(
        [*host.within, "bash", "-c", command],
        env=environ,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield child
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def invitation(build: subprocess.Popen[str]) -> str:
    """Return what a build says should be started on the other hosts."""
    assert build.stdout
    for line in build.stdout:
        if found := re.search(r"NODE_RANK=\.\.\. .*", line):
            return found[0]
    raise AssertionError("nobody was invited")


@pytest.mark.slow
@pytest.mark.needs("ip")
def test_two_hosts_train_together_and_go_on_after_one_died(
    tmp_path: Path, xtuner: str, nodes: tuple[Host, Host]
) -> None:
    first, second = nodes
    bench = Bench(
        tmp_path,
        xtuner,
        {
            "MODELWRIGHT_LAUNCHER": "torchrun",
            "MODELWRIGHT_RENDEZVOUS_HOST": first.address,
            "MODELWRIGHT_LAUNCHER_ENVIRON": f"GLOO_SOCKET_IFNAME={hosts.LINK}",
        },
        first.within,
    )
    there = replace(
        bench, environ={**bench.environ, "MODELWRIGHT_NODE_RANK": "1"}, within=second.within
    )
    bench.write("m", recipe("nodes: 2"))

    with bench.building("train:m") as build, invited(invitation(build), second) as other:
        wait(lambda: bench.has("m", 8)() or build.poll() is not None)
        os.killpg(other.pid, signal.SIGKILL)
        said = build.communicate(timeout=120)[0]
    assert build.returncode == 1
    assert "a process or a node went away" in said
    assert "doit goes on from the newest checkpoint" in said
    wait(lambda: trainers(bench.build) == [], 10)

    # This time both hosts get one command, as a platform gives it.
    with there.building("train:m") as helper, bench.building("train:m") as build:
        said, helped = (each.communicate(timeout=120)[0] for each in (build, helper))
    assert build.returncode == 0, said
    assert helper.returncode == 0, helped
    assert "this is node 1, which takes part" in helped
    assert "resumed epoch: 0, iter: 8" in bench.log("m")
    assert "[24/24]" in bench.log("m")
