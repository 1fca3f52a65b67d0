"""Take in the base weights, at a pinned revision or from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .core import source, weights
from .core.recipe import Recipe
from .core.stage import Facts, TaskDict

VERSION = 1


def wanted(recipe: Recipe) -> bool:
    """Return that every model starts from a base."""
    return True


def task(recipe: Recipe) -> TaskDict:
    return {"doc": recipe.base.label, "targets": ["config.json"]}


def key(recipe: Recipe) -> dict[str, Any]:
    """Return the digest of the base's files."""
    return source.key(recipe, recipe.base, "base")


def run(recipe: Recipe, folder: Path) -> Facts:
    """Link the files of a local base, once they are found to be a whole model."""
    origin = source.local(recipe, recipe.base, "base")
    model = weights.inspect(origin)
    source.link(origin, folder)
    return {"revision": "local", "architecture": model.architecture, "dtype": model.dtype}
