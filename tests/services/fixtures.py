"""Real servers, once a test run; `needs` skips their tests where the programs are missing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.services import docker, images, registry, slurm, swift, tokens
from tests.services.docker import Engine
from tests.services.registry import Registry
from tests.services.slurm import Slurm
from tests.services.swift import Swift
from tests.services.tokens import TokenServer


def _registry(folder: Path, **kinds: Any) -> Iterator[Registry]:
    if not shutil.which("docker-registry"):
        pytest.skip("needs docker-registry; install it with your package manager")
    made = registry.start(folder, **kinds)
    yield made
    made.server.stop()


@pytest.fixture(scope="session")
def plain_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that anybody may write to."""
    yield from _registry(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="session")
def other_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A second one, as Docker Hub is to one's own."""
    yield from _registry(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="session")
def password_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that wants a user and a password."""
    yield from _registry(tmp_path_factory.mktemp("password"), password=True)


@pytest.fixture(scope="session")
def tls_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with a certificate of its own, and a password."""
    yield from _registry(tmp_path_factory.mktemp("tls"), password=True, tls=True)


@pytest.fixture(scope="session")
def token_registry(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Registry, TokenServer]]:
    """A registry that wants tokens, and who gives them."""
    if not shutil.which("docker-registry"):
        pytest.skip("needs docker-registry; install it with your package manager")
    folder = tmp_path_factory.mktemp("tokens")
    with tokens.serve(folder) as server:
        made = registry.start(folder / "registry", tokens=server)
        yield made, server
        made.server.stop()


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """A Docker engine."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for a Docker engine of its own")
    made = docker.start(tmp_path_factory.mktemp("engine") / "docker")
    yield made
    made.stop()


@pytest.fixture(scope="session")
def stand_in() -> tuple[bytes, bytes, bytes]:
    """An image to build on."""
    return images.image(images.rootfs(Path("/bin/busybox")))


@pytest.fixture(scope="session")
def swift_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swift]:
    """OpenStack Swift's S3 interface."""
    missing = [p for p in ("swift-proxy-server", "memcached", "openssl") if not shutil.which(p)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}; install swift-proxy, swift-object, ...")
    made = swift.start(tmp_path_factory.mktemp("swift"))
    yield made
    made.stop()


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    """A Slurm with two nodes."""
    missing = [program for program in slurm.PROGRAMS if not shutil.which(program)]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}; install slurmctld, slurmd, slurm-client, munge")
    made = slurm.start(tmp_path_factory.mktemp("slurm") / "s")
    yield made
    made.stop()
