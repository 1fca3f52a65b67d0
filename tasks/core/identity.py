"""Whose a thing is that we leave at a server which others use, too.

Two projects may each have a model of the same name.  So what we make out there bears a mark of the
project, made once at random and kept in the recipe's lock: it stays when folders move, and who
shares the recipe shares it.
"""

from __future__ import annotations

import uuid

from . import console
from .recipe import Recipe
from .sources import lockfile

PART, KEY = "project", "id"


def known(recipe: Recipe) -> str:
    """Return the project's mark, or nothing where none was made yet."""
    return str(lockfile.read(recipe, PART).get(KEY, ""))


def settle(recipe: Recipe) -> None:
    """Make the mark, unless that is done."""
    if not known(recipe):
        lockfile.update(recipe, PART, **{KEY: str(uuid.uuid4())})
        console.say(f"   {lockfile.path(recipe).name} has this project's mark now; commit it")


def adopt(other: str) -> str:
    """Return what to do where a thing bears another mark, for messages."""
    return (
        f"where that project is this one, put `{PART}: {{{KEY}: {other}}}` into the lock beside "
        "the recipe"
    )
