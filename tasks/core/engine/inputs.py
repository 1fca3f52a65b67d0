"""All that can change a stage's result: what its key is made of."""

from __future__ import annotations

import itertools
from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import paths
from ..errors import UserError, instead, lookalike
from ..recipe import Recipe
from ..toolchains import toolchain
from . import manifest
from .digests import of_file

if TYPE_CHECKING:
    from .stage import Stage


class NotReady(Exception):
    """An input is not there yet."""


def stages_before(stage: Stage, recipe: Recipe) -> list[str]:
    """Return the stages whose results go into a stage, by its `file_dep`."""
    files = map(Path, stage.task(recipe).get("file_dep", ()))
    return [path.parent.name for path in files if path.name == manifest.NAME]


def gather(
    stage: Stage, recipe: Recipe, contents: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return a stage's inputs as the manifest records them.

    Args:
        contents: what stages before will hold, by name, where that is not what they hold now.

    Raises:
        NotReady: a stage before this one has no result.
        UserError: a file that the recipe names is missing.
    """
    task = stage.task(recipe)
    found: dict[str, Any] = {"version": stage.VERSION, "recipe": stage.key(recipe)}
    for path in map(Path, task.get("file_dep", ())):
        if path.name != manifest.NAME:
            found[_free(_label(path, recipe), found)] = _digest(path, recipe)
            continue
        before = path.parent.name
        found[before] = (contents or {}).get(before) or _content(path)
    for dependency in task.get("task_dep", ()):
        found["toolchain"] = toolchain.digest(dependency.removeprefix("toolchain:"))
    return found


def _content(path: Path) -> str:
    receipt = manifest.read(path)
    if receipt is None:
        raise NotReady(path.parent.name)
    return receipt.content


def _label(path: Path, recipe: Recipe) -> str:
    """Return how the manifest calls an input file: never an absolute path."""
    own = recipe.file.parent
    if path.is_relative_to(own):
        return str(path.relative_to(own))
    return str(path) if path.is_relative_to(paths.TEMPLATES) else path.name


def _free(label: str, taken: Container[str]) -> str:
    """Return a label that no input has: files of several folders may have one name."""
    numbered = (f"{label} ({number})" for number in itertools.count(2))
    return next(each for each in itertools.chain([label], numbered) if each not in taken)


def _digest(path: Path, recipe: Recipe) -> str:
    try:
        return of_file(path)
    except FileNotFoundError:
        raise missing(path, recipe) from None


def missing(path: Path, recipe: Recipe) -> UserError:
    """Return what to say of a file that a recipe names and that is not there."""
    guess = lookalike(path) or "; correct the path there, or put the file here"
    return UserError(f"{path}: no such file{instead(path)}; {recipe.file} names it{guess}")
