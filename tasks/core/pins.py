"""Images of others that rendered files name: by their tag, and the digest that it stands for.

`doit update:<model>` looks the digests up in their registries and keeps them in the recipe's lock.
Nothing that is rendered waits for that: without a digest, a file names the tag alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import console
from .errors import UserError
from .image import reference
from .image.reference import Reference
from .recipe import Recipe
from .sources import lockfile

PART = "images"


def pinned(recipe: Recipe, name: str) -> str:
    """Return an image's name, with the digest that is settled for it if one is."""
    digest = lockfile.read(recipe, PART).get(name)
    return f"{name}@{digest}" if digest else name


def mention(recipe: Recipe, names: Iterable[str]) -> None:
    """Say how many images are named by their tag alone, if any."""
    bare = sum("@" not in name for name in names)
    if bare:
        word = "image" if bare == 1 else "images"
        console.say(f"   {bare} {word} by tag alone; `doit update:{recipe.name}` pins")


def update(recipe: Recipe, names: Iterable[str]) -> None:
    """Look up what images' tags stand for now; say so where a registry does not tell."""
    asked = {name: reference.parse(name) for name in names if "@" not in name}
    for host in sorted({each.host for each in asked.values()}):
        there = {name: each for name, each in asked.items() if each.host == host}
        try:
            found = _digests(host, there)
        except UserError as error:
            console.say(f"   {', '.join(there)}: no digest; {error}")
            continue
        for name in there:
            if pinned(recipe, name) != f"{name}@{found.get(name)}":
                console.say(f"   {name}: {found.get(name, 'no such image there')}")
        lockfile.update(recipe, PART, **found)


def _digests(host: str, names: dict[str, Reference]) -> dict[str, str]:
    """Return what those of the tags stand for that a registry has.

    Raises:
        UserError: it does not answer, or refuses.
    """
    from .image.registry import Registry

    # What is not there costs a moment, not the minutes that a push would wait for it.
    with Registry(host, quick=True) as there:
        found = {name: there.digest(asked) for name, asked in names.items()}
    return {name: digest for name, digest in found.items() if digest}
