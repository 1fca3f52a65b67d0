"""Which wheels the packages of `image.pip` mean: chosen once by pip, kept in the recipe's lock.

An index has newer wheels tomorrow; the image of tomorrow shall be the image of today.
"""

from __future__ import annotations

import email
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from .. import console, paths
from ..engine import digests
from ..errors import UserError
from ..recipe import Recipe
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
    packages = wheels.missing(recipe)
    if not packages:
        return
    base = bases.read(recipe)
    version = wheels.python(recipe, base)
    place = paths.build() / ".downloads"
    place.mkdir(parents=True, exist_ok=True)
    console.status(f"choosing {', '.join(packages)} for Python {version}")
    with tempfile.TemporaryDirectory(prefix="wheels-", dir=place) as folder:
        words = ["download", "--dest", folder, *wheels.target(version, base), "--", *packages]
        if told := wheels.pip(words):
            raise UserError(
                f"{recipe.file}: image.pip: pip has no wheels of {', '.join(packages)} for Python "
                f"{version}; choose other versions, or say `builder: docker`\n{told}"
            )
        chosen = _needed(Path(folder), packages, wheels.provided(recipe))
    before = read(recipe) or {}
    settled = {"from": _asked(recipe), "python": version, "wheels": chosen}
    lockfile.update(recipe, "image", pip=settled)
    if before.get("wheels") != chosen:
        shown = ", ".join(f"{name} {wheel['version']}" for name, wheel in chosen.items())
        console.say(f"   image.pip: {shown}")


def _asked(recipe: Recipe) -> dict[str, Any]:
    """Return the question that a lock answers."""
    assert recipe.image is not None
    python = {"python": recipe.image.python} if recipe.image.python else {}
    return {"base": recipe.image.base, "packages": list(recipe.image.pip), **python}


def _needed(folder: Path, packages: list[str], provided: set[str]) -> dict[str, dict[str, str]]:
    """Return the wheels that packages lead to, without what the base has and what only that wants.

    The marks on a dependency need no reading: pip fetched what they ask for, and nothing else.
    """
    there = {wheels.normal(path.name.split("-")[0]): path for path in folder.glob("*.whl")}
    found: dict[str, dict[str, str]] = {}
    waiting = [wheels.normal(package) for package in packages]
    while waiting:
        name = waiting.pop()
        if name in found or name in provided or name not in there:
            continue
        path = there[name]
        found[name] = {"version": path.name.split("-")[1], "digest": digests.of_file(path)}
        waiting += map(wheels.normal, _requires(path))
    return dict(sorted(found.items()))


def _requires(wheel: Path) -> list[str]:
    """Return what a wheel's metadata says that it depends on."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        told = email.message_from_bytes(archive.read(name))
    return [str(line) for line in told.get_all("Requires-Dist", [])]
