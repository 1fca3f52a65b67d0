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
    """Say which images are named by their tag alone."""
    bare = [name for name in names if "@" not in name]
    if bare:
        console.say(f"   by tag alone: {', '.join(bare)}; `doit update:{recipe.name}` pins them")


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
        before = lockfile.read(recipe, PART)
        for name, digest in found.items():
            if before.get(name) != digest:
                console.say(f"   {name}: {digest}")
        lockfile.update(recipe, PART, **found)


def _digests(host: str, names: dict[str, Reference]) -> dict[str, str]:
    """Return what a registry's tags stand for.

    Raises:
        UserError: it does not answer, or has no such image.
    """
    from .image.registry import Registry

    found = {}
    with Registry(host) as there:
        for name, asked in names.items():
            digest = there.digest(asked)
            if digest is None:
                raise UserError(f"{name}: no such image there; correct it")
            found[name] = digest
    return found
