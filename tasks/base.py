"""Take in the base weights, at a pinned revision or from a folder.

A branch or tag is looked up once and kept in recipes/<model>.lock; every file is checked by size
and digest.  Files of a local folder are linked, never copied or written to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .core.engine.stage import Facts, TaskDict
from .core.recipe import Recipe
from .core.sources import source

VERSION = 1


def wanted(recipe: Recipe) -> bool:
    """Return that every model starts from a base."""
    return True


def task(recipe: Recipe) -> TaskDict:
    return {"doc": recipe.base.label, "targets": ["config.json"]}


def settle(recipe: Recipe) -> None:
    """Make the lock say which commit the revision means."""
    source.settle(recipe, recipe.base, "base")


def update(recipe: Recipe) -> None:
    """Look the revision up anew."""
    source.update(recipe, recipe.base, "base")


def key(recipe: Recipe) -> dict[str, Any]:
    """Return what the base's files are."""
    return source.key(recipe, recipe.base, "base")


def run(recipe: Recipe, folder: Path) -> Facts:
    """Bring the files in; they must turn out to be a whole model."""
    from .core.model import weights

    revision = source.fetch(recipe, recipe.base, "base", folder)
    with source.named(recipe, recipe.base, "base", folder):
        model = weights.inspect(folder)
    return {"revision": revision, "architecture": model.architecture, "dtype": model.dtype}
