"""The commands that make a result again, and those that its stages ran."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from typing import Any

from .. import paths
from ..errors import UserError
from ..recipe import Recipe
from ..toolchains import toolchain
from .state import Step

# A stage works in a folder aside, see paths.scratch.
SCRATCH = re.compile(r"/\.([a-z]+)-[0-9a-f]{12}\b")


def needed(recipe: Recipe, steps: Sequence[Step]) -> dict[str, Any]:
    """Return what someone else needs to make the same."""
    outward = [s.stage for s in steps if s.receipt and s.stage in ("push", "upload", "serve")]
    return {
        "commands": [
            f"./doitw {recipe.name}",
            f"./doitw check {recipe.name}",
            *(f"./doitw {stage}:{recipe.name}" for stage in outward),
        ],
        "files": recipe_files(recipe),
        "tools": [
            (step.stage, relative(command))
            for step in steps
            for command in (step.run or {}).get("commands", ())
        ],
        "toolchains": sorted(
            {
                str(step.receipt.inputs["toolchain"])
                for step in steps
                if step.receipt and "toolchain" in step.receipt.inputs
            }
        ),
    }


def recipe_files(recipe: Recipe) -> list[tuple[str, str]]:
    """Return the recipe and what its moving names stood for, each as (name, text)."""
    places = (recipe.file, recipe.file.with_suffix(".lock"))
    return [
        (f"recipes/{path.name}", path.read_text(encoding="utf-8", errors="replace"))
        for path in places
        if path.is_file()
    ]


def relative(command: str) -> str:
    """Return a command as from the project's folder: a page goes to other machines.

    The toolchain's interpreter is `python`.
    """
    with contextlib.suppress(UserError):
        command = command.replace(toolchain.python("xtuner"), "python")
    build = paths.build()
    command = SCRATCH.sub(r"/\1", command)
    return command.replace(f"{paths.ROOT}/", "").replace(str(build.absolute()), build.name)
