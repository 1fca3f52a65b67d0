"""Copy the recipe's own file into a folder, slowly."""

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
    return {"file_dep": [recipe.beside("in.txt")]}


def key(recipe: Recipe) -> dict[str, Any]:
    return recipe.slice("merge.shard_size")


def run(recipe: Recipe, folder: Path) -> Facts:
    """Write half of the file, wait as long as the recipe's folder says, write the rest."""
    source, pause = recipe.beside("in.txt"), recipe.beside("pause")
    script = (
        f"head -c 3 {source} >out/a; sleep $(cat {pause}); tail -c +4 {source} >>out/a; wc -c out/a"
    )
    (folder / "out").mkdir()
    log = paths.log(recipe.name, "first")
    process.run(["sh", "-ec", f"cd {folder.absolute()}; {script}"], log)
    (folder / "out" / "b").write_text("the same for ever\n")
    return {"bytes": (folder / "out" / "a").stat().st_size}
