"""Keep a channel at a gateway: added, changed, tried, given back.

What we add bears our mark.  A channel of somebody's that serves the model is changed, and put back
as it was when the model is taken away; one that serves other models is nobody's to change.
"""

from __future__ import annotations

from .. import console
from ..errors import UserError
from .channel import Channel, Fields, Gateway, differences

QUESTION = "What is two and two? Answer with one word."


def only(there: Gateway, title: str) -> Fields:
    """Return the channel of a name, or nothing."""
    found = there.find(title)
    if len(found) > 1:
        ids = " and ".join(str(one["id"]) for one in found)
        raise UserError(f"{there.name}: channels {ids} are both called '{title}'; rename one")
    return found[0] if found else {}


def settle(there: Gateway, asked: Channel, left: Fields, secret: str) -> Fields | None:
    """Add the channel or change it; return what somebody else's was before us, if it is one.

    Args:
        left: what an earlier run of ours left.
        secret: the key of the model's server.
    """
    fields, found = there.fields(asked), only(there, asked.name)
    if not found:
        there.add(fields, secret)
        console.say(f"   channel '{asked.name}' added")
        return None
    if not left:
        _refuse_foreign(there, found, asked)
    changed = differences(found, fields)
    # Lists do not show the key: to send it again is the only way to be sure of it.
    if changed or secret:
        there.change(found, fields, secret)
        console.say(f"   channel '{asked.name}': {', '.join(changed) or 'its key'} set")
    if there.is_ours(found):
        return None
    was: Fields | None = left.get("before")
    return was or {key: found.get(key) for key in fields}


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
        raise UserError(
            f"{error}\nthe gateway reaches the model at {asked.upstream}; if it runs in a "
            "container, localhost is itself: set MODELWRIGHT_GATEWAY_UPSTREAM"
        ) from None
    answer = there.chat(asked.model, QUESTION)
    if answer is None:
        console.say("   tested; MODELWRIGHT_GATEWAY_KEY would test it as clients see it")
    else:
        console.say(f"   {asked.model} answers: {' '.join(answer.split())[:60]}")


def give_back(
    there: Gateway, title: str, before: Fields | None, *, ours: bool = False
) -> list[str]:
    """Put a channel of somebody's back as it was; return what was done.

    Args:
        ours: remove the channel, if it is one of ours.
    """
    found = only(there, title)
    if found and ours and there.is_ours(found):
        there.remove(found)
        return [f"channel '{title}' removed"]
    if found and before:
        there.change(found, before, "")
        return [f"channel '{title}' put back as it was"]
    return []


def _refuse_foreign(there: Gateway, found: Fields, asked: Channel) -> None:
    """Refuse to change a channel that somebody made for other models."""
    serves = there.models(found)
    if asked.model not in serves:
        raise UserError(
            f"{there.name}: channel '{asked.name}' ({found['id']}) is there already and serves "
            f"{', '.join(serves) or 'nothing'}; give the recipe another `gateway.name`, or delete "
            "that channel"
        )
