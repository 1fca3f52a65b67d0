"""Containers that we start: named, marked as ours, found again, removed when asked."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from .. import paths
from ..engine import manifest
from ..errors import UserError
from .serving import LOOPBACK

# How it was started, with what more than every start has, and for the results in which folder.
MARK, EXTRAS, BUILD = "modelwright", "modelwright.extras", "modelwright.build"
# What fetches packages reads these; pip and uv do, as Xinference's image has them.
FETCHING = (
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST"),
)
# The network of our compose files, and the label without which compose refuses one.
NETWORK, COMPOSE = "modelwright", "com.docker.compose.network"


def command(
    name: str,
    image: str,
    arguments: Sequence[str] = (),
    *,
    port: tuple[str, int, int] | None = None,
    volumes: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    network: str = "",
    gpus: str = "",
    extras: Iterable[str] = (),
    passed: Iterable[str] = (),
) -> list[str]:
    """Return `docker run` with its options.

    Args:
        port: address and port on this machine, port inside; none with the host's own network.
        volumes: places in the container, by places here.
        environ: variables; one with an empty value is taken from our environment, and so never
            shows in a list of processes.
        gpus: Docker's own words, `all` or `device=0,1`.
        extras: what this start has beyond what every start has, to be found again.
        passed: variables taken from our environment; with others, the container stays as asked.
    """
    words = ["docker", "run", "-d", "--name", name, "--restart", "unless-stopped"]
    words += ["--network", network] if network else []
    if port and network != "host":
        words += ["-p", f"{port[0]}:{port[1]}:{port[2]}"]
    for here, there in (volumes or {}).items():
        words += ["-v", f"{here}:{there}"]
    for variable, value in (environ or {}).items():
        words += ["-e", f"{variable}={value}" if value else variable]
    # The quotes are Docker's: without them it reads a list of devices as several options.
    words += ["--gpus", f'"{gpus}"' if "," in gpus else gpus] if gpus else []
    label = paths.short(manifest.digest_of([*words, image, *arguments]))
    labels = {MARK: label, EXTRAS: json.dumps(list(extras)), BUILD: build()}
    for mark, value in labels.items():
        words += ["--label", f"{mark}={value}"]
    for variable in passed:
        words += ["-e", variable]
    return [*words, image, *arguments]


def fetching(network: str) -> list[str]:
    """Return the variables by which a container can fetch packages as we do.

    A proxy on this machine's loopback is nowhere in a container that has its own.
    """
    found = {name: os.environ[name] for name in FETCHING if os.environ.get(name)}
    if network == "host":
        return list(found)
    return [name for name, value in found.items() if urlsplit(value).hostname not in LOOPBACK]


def build() -> str:
    """Return the folder of the results that our containers serve."""
    return str(paths.build().absolute())


def label(run: Sequence[str]) -> str:
    """Return the mark of a container that a command starts."""
    return next(word for word in run if word.startswith(f"{MARK}=")).partition("=")[2]


def find(name: str) -> dict[str, Any] | None:
    """Return what Docker knows of a container of that name.

    Raises:
        UserError: there is no Docker, or the container is not ours.
    """
    told = _ask("ps", "-a", "--filter", f"name=^{name}$", "--format", "{{.ID}}").split()
    if not told:
        return None
    found: dict[str, Any] = json.loads(_ask("inspect", told[0]))[0]
    labels = found["Config"]["Labels"] or {}
    if MARK not in labels:
        raise UserError(
            f"container {name}: not made by us; rename or remove it, or set another port by "
            "MODELWRIGHT_SERVE_PORT"
        )
    if (place := labels.get(BUILD, build())) != build():
        raise UserError(
            f"container {name}: serves the results in {place}; unship there, or `docker rm -f "
            f"{name}` if that is no more, or set another port by MODELWRIGHT_SERVE_PORT"
        )
    return found


def is_as_asked(found: Mapping[str, Any], run: Sequence[str]) -> bool:
    """Return whether a container runs, and was started by this command."""
    return bool(found["State"]["Running"]) and found["Config"]["Labels"][MARK] == label(run)


def extras(found: Mapping[str, Any]) -> set[str]:
    """Return what a container was started with beyond what every start has."""
    return set(json.loads(found["Config"]["Labels"].get(EXTRAS, "[]")))


def start(run: Sequence[str], environ: Mapping[str, str]) -> None:
    """Start a container; the network of our compose files is made where it is missing, and stays.

    Args:
        environ: what the command takes from our environment.

    Raises:
        UserError: Docker refuses; a container that it made all the same is removed.
    """
    name = run[run.index("--name") + 1]
    network = run[run.index("--network") + 1] if "--network" in run else ""
    if network == NETWORK:
        _have_network()
    try:
        _run(list(run), {**os.environ, **environ})
    except UserError as error:
        remove(name)
        if f"network {network} not found" in str(error):
            raise UserError(
                f"MODELWRIGHT_SERVE_NETWORK: Docker has no network '{network}'; make it by `docker "
                f"network create {network}`, or name another"
            ) from None
        raise UserError(f"{error}\n  command: {shlex.join(run)}") from None


def remove(name: str) -> bool:
    """Stop and remove a container of ours; return whether there was one."""
    if find(name) is None:
        return False
    _ask("rm", "-f", name)
    return True


def output(name: str) -> str:
    """Return what a container has printed."""
    done = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def _have_network() -> None:
    """Make the network of our compose files where Docker has none."""
    if _has_network():
        return
    try:
        _ask("network", "create", "--label", f"{COMPOSE}={NETWORK}", NETWORK)
    except UserError:
        # Another server, started at the same time, may have made it.
        if not _has_network():
            raise


def _has_network() -> bool:
    listed = _ask("network", "ls", "--filter", f"name={NETWORK}", "--format", "{{.Name}}")
    return NETWORK in listed.split()


def _ask(*words: str) -> str:
    return _run(["docker", *words], dict(os.environ))


def _run(words: list[str], environ: dict[str, str]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environ)
    except FileNotFoundError:
        raise UserError(
            "docker: no such program; install the Docker client, or set MODELWRIGHT_SERVE_RUN=local"
        ) from None
    if done.returncode:
        told = done.stderr.strip() or done.stdout.strip()
        raise UserError(f"docker {words[1]} failed: {told}; is a Docker engine up (DOCKER_HOST)?")
    return done.stdout
