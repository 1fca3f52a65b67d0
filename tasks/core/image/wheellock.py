"""Which wheels the packages of `image.pip` mean: chosen once by pip, kept in the recipe's lock.

An index has newer wheels tomorrow; the image of tomorrow shall be the image of today.
"""

from __future__ import annotations

from typing import Any

from .. import console
from ..recipe import Recipe, present
from ..sources import lockfile
from . import bases, wheels

Locked = dict[str, Any]


def read(recipe: Recipe) -> Locked | None:
    """Return what the lock says of the recipe's packages; None where it answers other questions."""
    found = lockfile.read(recipe, "image").get("pip") or {}
    return found if found.get("from") == _asked(recipe) else None


def key(recipe: Recipe) -> dict[str, Any]:
    """Return what packages contribute to an image's key; nothing where the base has them all."""
    if not wheels.missing(recipe):
        return {}
    found = read(recipe) or {}
    return {"image.pip.wheels": found.get("wheels"), "image.pip.python": found.get("python")}


def settle(recipe: Recipe) -> None:
    """Choose wheels for the recipe's packages, unless the lock has them."""
    if read(recipe) is None:
        update(recipe)


def update(recipe: Recipe) -> None:
    """Choose wheels anew, as pip does it for the base's Python; lock their versions and digests.

    Raises:
        UserError: a package has no wheel for that Python, or pip cannot fetch it.
    """
    from . import wheelchoice

    if not wheels.missing(recipe):
        return
    base = bases.read(recipe)
    version = wheels.python(recipe, base)
    chosen = wheelchoice.choose(recipe, base, version)
    before = read(recipe) or {}
    settled = {"from": _asked(recipe), "python": version, "wheels": chosen}
    lockfile.update(recipe, "image", pip=settled)
    if before.get("wheels") != chosen:
        shown = ", ".join(f"{name} {wheel['version']}" for name, wheel in chosen.items())
        console.say(f"   image.pip: {shown}")


def _asked(recipe: Recipe) -> dict[str, Any]:
    """Return the question that a lock answers."""
    image = present(recipe.image)
    python = {"python": image.python} if image.python else {}
    return {"base": image.base, "packages": list(image.pip), **python}
