"""Keep a channel at a gateway: added, changed, tried, given back.

What we add bears our mark.  A channel of somebody's that serves the model and nothing else is
changed, and put back as it was when the model is taken away; any other is nobody's to change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .. import console, identity
from ..errors import UserError
from .channel import Channel, Fields, Gateway, differences

# What must be known to undo a run: kind, endpoint, fields as we want them; where the channel is
# somebody's also its id and, in `before`, its fields before us.
Left = dict[str, Any]

QUESTION = "What is two and two? Answer with one word."


def only(there: Gateway, title: str) -> Fields:
    """Return the channel of a name, or nothing."""
    found = there.find(title)
    if len(found) > 1:
        ids = " and ".join(str(one["id"]) for one in found)
        raise UserError(f"{there.name}: channels {ids} are both called '{title}'; rename one")
    return found[0] if found else {}


def is_ours(there: Gateway, found: Fields, left: Left) -> bool:
    """Return whether a channel is this recipe's.

    A first release put a mark that named no owner: there the note of a run tells.
    """
    owner = there.marked(found)
    if owner == "":
        return bool(left) and not left.get("before")
    return owner is not None and owner == there.owner


def drift(there: Gateway, asked: Channel, left: Left) -> str:
    """Return how a channel is no longer as it was left, or nothing."""
    found = only(there, asked.name)
    if not found:
        return f"channel '{asked.name}' is gone"
    if _has_another_owner(there, found):
        return f"channel '{asked.name}' is another recipe's"
    if there.marked(found) == "" and is_ours(there, found, left):
        return f"channel '{asked.name}' has a mark without an owner"
    changed = differences(found, there.fields(asked))
    return f"channel '{asked.name}' has another {', '.join(changed)}" if changed else ""


def taken_over(there: Gateway, found: Fields, asked: Channel, left: Left, secret: str) -> Left:
    """Return id and fields of somebody's channel before us; nothing where it is ours, or new.

    Args:
        left: what an earlier run of ours left.
        secret: the key of the model's server.

    Raises:
        UserError: the channel is nobody's to change.
    """
    if not found or is_ours(there, found, left):
        return {}
    if _has_another_owner(there, found):
        raise UserError(
            f"{there.name}: channel '{asked.name}' ({found['id']}) belongs to another recipe; "
            f"give this one another `gateway.name`{_adopt(there, found)}"
        )
    is_known = bool(left.get("before")) and left["id"] == found["id"]
    _refuse_other_models(there, found, asked, left["fields"] if is_known else {})
    if secret:
        raise UserError(
            f"{there.name}: channel '{asked.name}' ({found['id']}) is somebody's, and no gateway "
            "tells a key, so that its own could not be put back; give the recipe another "
            "`gateway.name`, or delete that channel"
        )
    known = left["before"] if is_known else {}
    return {"id": found["id"], "before": {**_now(found, there.fields(asked)), **known}}


def settle(there: Gateway, asked: Channel, found: Fields, left: Left, secret: str) -> None:
    """Add the channel, or change the one that was found.

    Args:
        left: what an earlier run of ours left.
        secret: the key of the model's server.
    """
    fields = there.fields(asked)
    if not found:
        there.add(fields, secret)
        console.say(f"   channel '{asked.name}' added")
        return
    if is_ours(there, found, left) and there.marked(found) != there.owner:
        fields = {**fields, **there.mark(found)}
    changed = differences(found, fields)
    # Lists do not show the key: to send it again is the only way to be sure of it.
    if changed or secret:
        there.change(found, fields, secret)
        console.say(f"   channel '{asked.name}': {', '.join(changed) or 'its key'} set")


def kept(there: Gateway, asked: Channel) -> Fields:
    """Return the channel as the gateway has it after all: it may say yes and keep nothing."""
    found = only(there, asked.name)
    wrong = differences(found, there.fields(asked))
    if not found or wrong:
        what = f"another {', '.join(wrong)}" if found else "no channel"
        raise UserError(f"{there.name}: took '{asked.name}' and has {what}; its log tells more")
    return found


def attempt(there: Gateway, found: Fields, asked: Channel) -> None:
    """Chat through the channel, and as the gateway's clients do."""
    try:
        there.test(found, asked.model)
    except UserError as error:
        raise UserError(f"{error}\n{_why_not_reached(asked, str(error))}") from None
    answer = there.chat(asked.model, QUESTION)
    if answer is None:
        console.say("   tested; MODELWRIGHT_GATEWAY_KEY would test it as clients see it")
    else:
        console.say(f"   {asked.model} answers: {' '.join(answer.split())[:60]}")


def _why_not_reached(asked: Channel, told: str) -> str:
    """Return what to look at where a channel does not reach its model."""
    if re.search(r"\b40[13]\b", told):
        return (
            f"the server at {asked.upstream} wants a key; set MODELWRIGHT_GATEWAY_UPSTREAM_KEY to "
            "one that it takes, such as an API key of Xinference's: a password is for people"
        )
    return (
        f"the gateway reaches the model at {asked.upstream}; if it runs in a container, localhost "
        "is itself: set MODELWRIGHT_GATEWAY_UPSTREAM"
    )


def roll_back(there: Gateway, asked: Channel, was: Fields) -> bool:
    """Undo what was done to a channel whose trial failed; return whether all is as before.

    Args:
        was: the channel before; nothing where there was none.
    """
    try:
        found = only(there, asked.name)
        if found and not was:
            _remove_added(there, found)
        elif found and differences(found, before := _now(was, there.fields(asked))):
            there.change(found, before, "")
    except UserError as error:
        how = "put back" if was else "taken away again"
        console.say(f"   channel '{asked.name}' is not {how}: {error}")
        return False
    return True


def give_back(there: Gateway, title: str, left: Left, told_by: Sequence[Path]) -> list[str]:
    """Remove a channel of ours, or put somebody's back as it was; return what was done.

    Args:
        told_by: the files by which we know that a run of ours made or changed it.

    Raises:
        UserError: a run did, and yet the channel bears another recipe's mark.
    """
    found = only(there, title)
    if found and told_by and _has_another_owner(there, found):
        raise UserError(
            f"{there.name}: channel '{title}' ({found['id']}) stays, as it bears another recipe's "
            f"mark; if it is not this recipe's, delete {' and '.join(map(str, told_by))}"
            f"{_adopt(there, found)}"
        )
    if found and is_ours(there, found, left):
        there.remove(found)
        return [f"channel '{title}' removed"]
    if found and left.get("before") and left["id"] == found["id"]:
        there.change(found, left["before"], "")
        return [f"channel '{title}' put back as it was"]
    return []


def _has_another_owner(there: Gateway, found: Fields) -> bool:
    return bool(there.marked(found)) and there.marked(found) != there.owner


def _adopt(there: Gateway, found: Fields) -> str:
    """Return what to do where another's channel is this recipe's, if it may be."""
    mark = str(there.marked(found)).rpartition("/")[2]
    return "" if there.owner.endswith(f"/{mark}") else f", or, {identity.adopt(mark)}"


def _remove_added(there: Gateway, found: Fields) -> None:
    """Remove a channel that was just added, unless somebody else was faster."""
    if there.marked(found) == there.owner:
        there.remove(found)
        console.say(f"   channel '{found['name']}' taken away again")


def _now(found: Fields, names: Iterable[str]) -> Fields:
    """Return those fields of a channel that we change."""
    return {name: found.get(name) for name in names}


def _refuse_other_models(there: Gateway, found: Fields, asked: Channel, ours: Fields) -> None:
    """Refuse to change somebody's channel unless it serves the model alone.

    Args:
        ours: the fields that an earlier run of ours gave this channel, if one did.
    """
    serves = there.models(found)
    if serves not in ([asked.model], there.models(ours)) or not serves:
        raise UserError(
            f"{there.name}: channel '{asked.name}' ({found['id']}) is there already and serves "
            f"{', '.join(serves) or 'nothing'}; give the recipe another `gateway.name`, or delete "
            "that channel"
        )
