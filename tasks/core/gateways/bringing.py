"""Bring a channel to the gateway of the settings and take it back, by the note of earlier runs.

What was there is noted before it is changed, and put back if a trial fails or is stopped.  A
channel at a gateway that the settings no longer name is left alone there.
"""

from __future__ import annotations

from pathlib import Path

from .. import console, settings
from ..engine.journal import Journal
from ..errors import UserError
from . import upkeep
from .channel import Channel, Gateway
from .upkeep import Left


def bring(there: Gateway, asked: Channel, journal: Journal, secret: str) -> Left:
    """Have the channel as asked and try it; return what must be known to undo that.

    Args:
        secret: the key of the model's server.

    Raises:
        UserError: it is nobody's to change, is not taken, or does not answer.
    """
    earlier = _carried(there, asked, journal)
    noted, found = journal.read(), upkeep.only(there, asked.name)
    before = upkeep.taken_over(there, found, asked, earlier, secret)
    left: Left = {**_here(), "fields": there.fields(asked), **before}
    journal.write(left)
    try:
        upkeep.settle(there, asked, found, earlier, secret)
        upkeep.attempt(there, upkeep.kept(there, asked), asked)
    except BaseException:
        if upkeep.roll_back(there, asked, found):
            journal.write(noted)
        raise
    return left


def take_back(there: Gateway, name: str, journal: Journal, receipt: Path) -> list[str]:
    """Remove the channel that we made, or put back what somebody else's was before.

    Args:
        name: what the channel is called where no run has noted it.
        receipt: the manifest of the last run, if there is one.

    Raises:
        UserError: it is at another gateway, or bears another recipe's mark by now.
    """
    left = journal.read()
    if _is_elsewhere(left):
        raise _stays(left, journal)
    told_by = [path for path in (journal.path, receipt) if path.exists()]
    lines = upkeep.give_back(there, left["fields"]["name"] if left else name, left, told_by)
    journal.write({})
    return lines


def _carried(there: Gateway, asked: Channel, journal: Journal) -> Left:
    """Return what an earlier run left for the channel; one that had another name is given back.

    Raises:
        UserError: at another gateway somebody's channel waits to be put back, or the one of
            another name bears another recipe's mark by now.
    """
    left = journal.read()
    if _is_elsewhere(left):
        if left.get("before"):
            raise _stays(left, journal)
        console.say(f"   the channel in {_place(left)} stays; unship before the gateway is another")
        return {}
    if not left or left["fields"]["name"] == asked.name:
        return left
    upkeep.give_back(there, left["fields"]["name"], left, [journal.path])
    journal.write({})
    return {}


def _is_elsewhere(left: Left) -> bool:
    """Return whether the channel was left at another gateway than that of the settings."""
    return bool(left) and any(left[name] != value for name, value in _here().items())


def _here() -> Left:
    found = settings.current()
    return {"kind": found.gateway_kind, "endpoint": found.gateway_endpoint.rstrip("/")}


def _stays(left: Left, journal: Journal) -> UserError:
    return UserError(
        f"the channel is in {_place(left)}; set MODELWRIGHT_GATEWAY_ENDPOINT and _KIND to that and "
        f"unship, or, if that gateway is no more, delete {journal.path}"
    )


def _place(left: Left) -> str:
    return f"{left['kind']} at {left['endpoint']}"
