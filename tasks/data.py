"""Take in the raw dataset, at a pinned revision or from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .core.engine.stage import Facts, TaskDict
from .core.recipe import Recipe, present
from .core.sources import source

VERSION = 1


def wanted(recipe: Recipe) -> bool:
    """Return whether the recipe has a dataset."""
    return recipe.data is not None


def task(recipe: Recipe) -> TaskDict:
    return {"doc": present(recipe.data).label}


def settle(recipe: Recipe) -> None:
    """Make the lock say which commit the revision means."""
    source.settle(recipe, present(recipe.data), "data")


def update(recipe: Recipe) -> None:
    """Look the revision up anew."""
    source.update(recipe, present(recipe.data), "data")


def key(recipe: Recipe) -> dict[str, Any]:
    """Return what the dataset's files are."""
    return source.key(recipe, present(recipe.data), "data")


def run(recipe: Recipe, folder: Path) -> Facts:
    """Bring the files in."""
    return {"revision": source.fetch(recipe, present(recipe.data), "data", folder)}
