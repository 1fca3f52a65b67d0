"""Start servers that outlive the build: once, found again, anew where they are not as asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import console, settings
from ..engine import lock
from ..errors import UserError
from ..web import address
from . import container, daemon, servers
from .serving import LOOPBACK, Place, timeout

if TYPE_CHECKING:
    from ..web.api import Api


@dataclass(frozen=True)
class Start:
    """How a server is started: the program or `docker run`, and what its environment gets."""

    command: Sequence[str]
    environ: Mapping[str, str]


def ensure(
    at: Place,
    needed: Collection[str],
    start: Callable[[Sequence[str]], Start],
    there: Api,
    path: str,
    first: Callable[[], None] = lambda: None,
) -> None:
    """Have a server of ours that answers: the one that is there if it will do, else a new one.

    Args:
        needed: what the server must have been started with.
        start: how it is started with such things.
        path: what answers with 200 when the server is ready.
        first: what a new server needs before it can be used.

    Raises:
        UserError: it does not start, or its port is taken.
    """
    with lock.held(".servers", at.name, f"starts {at.name}"):
        had = _had(at, start)
        if had is not None and set(needed) <= had:
            _wait(at, there, path)
            return
        if servers.stop(at):
            console.say(
                f"   {at.kind} is started anew; whatever else it served has to be served again"
            )
        _refuse_taken(at)
        extras = sorted({*needed, *(had or ())})
        _begin(at, start(extras), extras)
        try:
            _wait(at, there, path)
            first()
        except BaseException:
            servers.stop(at)
            raise
        servers.announce(at)


def _begin(at: Place, made: Start, extras: Sequence[str]) -> None:
    if at.way == "docker":
        container.start(made.command, made.environ)
    else:
        daemon.start(at.name, made.command, made.environ, extras)


def drift(at: Place, start: Callable[[Sequence[str]], Start]) -> str:
    """Return what is wrong with a server of ours: that it is down, or not as settings ask now."""
    if at.way == "endpoint":
        return ""
    if not servers.is_alive(at):
        return f"{at.kind} at {at.endpoint} is not running"
    return "" if _had(at, start) is not None else f"{at.kind} runs with other settings"


def _had(at: Place, start: Callable[[Sequence[str]], Start]) -> set[str] | None:
    """Return what a server that runs was started with; None where none is as it would be now."""
    if at.way == "docker":
        found = container.find(at.name)
        extras = container.extras(found) if found else set()
        same = bool(found and container.is_as_asked(found, start(sorted(extras)).command))
    else:
        process = daemon.find(at.name)
        extras = set(process.extras) if process else set()
        made = start(sorted(extras))
        same = bool(process and daemon.is_as_asked(process, made.command, made.environ))
    return extras if same else None


def _wait(at: Place, there: Api, path: str) -> None:
    """Wait until a server answers.

    Raises:
        UserError: it ended, or takes too long; its last lines are in it.
    """
    end = time.monotonic() + timeout()
    while True:
        try:
            if there.ask("GET", path).status == 200:
                console.clear()
                return
        except UserError:
            if not servers.is_alive(at):
                raise there.fault(f"does not start{servers.tail(at)}") from None
        if time.monotonic() > end:
            raise there.fault(f"does not answer in time (serve_timeout){servers.tail(at)}")
        console.status(f"{at.kind} starts at {at.endpoint}")
        time.sleep(0.1)


def refuse_open(place: Place, secret: str, cure: str) -> None:
    """Refuse to start a server that anybody on the network could use.

    Raises:
        UserError: it would listen beyond this machine, and ask for no password.
    """
    if place.bind not in LOOPBACK and not secret:
        where = settings.current().where("serve_bind")
        raise UserError(
            f"{where}: {place.bind} is open to others, and the server would ask for no password; "
            f"{cure}, or leave it at 127.0.0.1"
        )


def _refuse_taken(place: Place) -> None:
    """Refuse to start a server where another program listens.

    Raises:
        UserError: the port is in use.
    """
    if why := address.taken(place.bind, place.port):
        raise UserError(
            f"{place.bind}:{place.port}: {why}; set MODELWRIGHT_SERVE_PORT to a free port, or, if "
            "a server of the right kind is there, "
            f"MODELWRIGHT_{place.kind.upper()}_ENDPOINT"
        )
