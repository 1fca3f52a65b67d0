"""Convert the dataset into the form that xtuner trains on.

The facts say what is in it: rows, turns, who speaks, and how long the rows are for the recipe's
tokenizer, counted in a sample where there are many.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .core import paths, xtuner
from .core.engine.stage import Facts, TaskDict
from .core.errors import CommandFailed, UserError
from .core.recipe import Recipe, present
from .core.xtuner import DATA_FAULT

VERSION = 2


def wanted(recipe: Recipe) -> bool:
    """Return whether the recipe has a dataset."""
    return recipe.data is not None


def task(recipe: Recipe) -> TaskDict:
    return {
        "doc": f"{present(recipe.data).format} -> datasets.load_from_disk",
        "file_dep": [paths.manifest(recipe.name, stage) for stage in ("base", "data")],
        "task_dep": ["toolchain:xtuner"],
        "targets": ["dataset_info.json", "state.json"],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    """Return how the rows are read, and how many tokens are too many."""
    return recipe.slice("data.format", "data.folder", "train.max_length")


def command(recipe: Recipe, folder: Path) -> list[str]:
    """Return the command that converts the dataset into a folder."""
    origin = paths.output(recipe.name, "data") / present(recipe.data).folder
    tokenizer = paths.output(recipe.name, "base") / "tokenizer.json"
    counted = recipe.train and tokenizer.is_file()
    tokens = [tokenizer, recipe.train.max_length] if recipe.train and counted else []
    return xtuner.program("convert.py", origin, folder, present(recipe.data).format, *tokens)


def run(recipe: Recipe, folder: Path) -> Facts:
    """Convert; faults of the data are shown as they are, with file and line."""
    output: list[str] = []
    try:
        log = paths.log(recipe.name, "convert")
        xtuner.run(command(recipe, folder), recipe, log, output.append, cwd=paths.ROOT)
    except CommandFailed as error:
        if error.status == DATA_FAULT:
            raise UserError("\n".join(output)) from None
        raise
    counts: Facts = json.loads(output[-1])
    return counts
