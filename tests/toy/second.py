"""Count the letters of the first stage's file, slowly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tasks.core import paths
from tasks.core.engine import process
from tasks.core.engine.stage import Facts, TaskDict
from tasks.core.recipe import Recipe

VERSION = 1


def wanted(recipe: Recipe) -> bool:
    return True


def task(recipe: Recipe) -> TaskDict:
    return {"file_dep": [paths.manifest(recipe.name, "first")]}


def key(recipe: Recipe) -> dict[str, Any]:
    return {}


def run(recipe: Recipe, folder: Path) -> Facts:
    """Start a process that starts another, as trainers do."""
    origin = (paths.output(recipe.name, "first") / "out" / "a").absolute()
    place, pause = (folder / "count").absolute(), recipe.beside("pause2")
    script = f"head -c 2 {origin} >{place}; sleep $(cat {pause}) & wait; wc -c <{origin} >{place}"
    process.run(["sh", "-c", script], paths.log(recipe.name, "second"))
    return {"letters": int((folder / "count").read_text())}
