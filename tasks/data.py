"""Take in the raw dataset, at a pinned revision or from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .core import source
from .core.errors import UserError
from .core.recipe import Recipe
from .core.sections import Data
from .core.stage import Facts, TaskDict

VERSION = 1


def wanted(recipe: Recipe) -> bool:
    """Return whether the recipe has a dataset."""
    return recipe.data is not None


def task(recipe: Recipe) -> TaskDict:
    return {"doc": _data(recipe).label}


def key(recipe: Recipe) -> dict[str, Any]:
    """Return the digest of the dataset's files."""
    return source.key(recipe, _data(recipe), "data")


def run(recipe: Recipe, folder: Path) -> Facts:
    """Link the files of a local dataset."""
    origin = source.local(recipe, _data(recipe), "data")
    if not source.link(origin, folder):
        raise UserError(f"{recipe.file}: data.path: {origin} is empty; put the dataset there")
    return {"revision": "local"}


def _data(recipe: Recipe) -> Data:
    assert recipe.data is not None
    return recipe.data
