"""Whose a thing is that we leave at a server which others use, too.

Two recipes, in one project or in two, may each have a model of the same name.  So what we make out
there names its owner: a mark made once at random and kept in the recipe's lock.  It stays when
folders move, and who shares the recipe shares it.
"""

from __future__ import annotations

import uuid

from . import console
from .engine import lock
from .recipe import Recipe
from .sources import lockfile

PART, KEY = "owner", "id"


def known(recipe: Recipe) -> str:
    """Return the recipe's mark, or nothing where none was made yet."""
    return str(lockfile.read(recipe, PART).get(KEY, ""))


def named(recipe: Recipe) -> str:
    """Return the mark behind the recipe's name, or nothing where none was made yet.

    A recipe that was copied with its lock has the same mark, and another name.
    """
    mark = known(recipe)
    return f"{recipe.name}/{mark}" if mark else ""


def settle(recipe: Recipe) -> None:
    """Make the mark, unless that is done."""
    with lock.briefly(recipe.name, PART):  # two stages may come for it at once
        if not known(recipe):
            lockfile.update(recipe, PART, **{KEY: str(uuid.uuid4())})
            said = f"{lockfile.path(recipe).name} has a mark for what is made now; commit it"
            console.say(f"   {said}")


def adopt(other: str) -> str:
    """Return what to do where a thing names another owner, for messages."""
    return (
        f"where that is this recipe in another checkout, put `{PART}: {{{KEY}: {other}}}` into its "
        "lock here, too"
    )
