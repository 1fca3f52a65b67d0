"""Servers of ours that are there: a process of this machine, or a container."""

from __future__ import annotations

from .. import console, settings
from ..toolchains import torchbuild
from . import container, daemon
from .serving import Place


def stop(place: Place) -> list[str]:
    """Stop a server that we started; return a line on it, if there was one."""
    if place.way == "local" and daemon.stop(place.name):
        return [f"{place.kind} on port {place.port} stopped"]
    if place.way == "docker" and container.remove(place.name):
        return [f"container {place.name} removed"]
    return []


def announce(place: Place) -> None:
    """Say that a server was started that stays when the build is over."""
    if place.way == "local":
        found = daemon.find(place.name)
        console.say(
            f"   {place.kind} at {place.endpoint} stays when the build is over: process "
            f"{found.pid if found else '?'}, log {daemon.log(place.name)}; `doit unship` stops it"
        )
    else:
        console.say(
            f"   {place.kind} at {place.endpoint} stays when the build is over: container "
            f"{place.name}; `doit unship` removes it"
        )


def is_alive(place: Place) -> bool:
    """Return whether a server that we started has not ended."""
    if place.way == "local":
        return daemon.find(place.name) is not None
    found = container.find(place.name)
    return bool(found and found["State"]["Running"] and not found["RestartCount"])


def printed(place: Place) -> str:
    """Return what a server of ours has printed."""
    if place.way == "docker":
        return container.output(place.name)
    path = daemon.log(place.name)
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""


def tail(place: Place) -> str:
    """Return the last lines that a server of ours has printed, to put into a message."""
    last = [line for line in printed(place).splitlines() if line.strip()][-12:]
    return "".join(f"\n  | {line}" for line in last)


def gpus() -> str:
    """Return the GPUs that a container gets, in Docker's words; nothing where there are none."""
    devices = settings.current().serve_devices
    if devices:
        return f"device={devices}"
    return "all" if torchbuild.has_gpu() else ""
