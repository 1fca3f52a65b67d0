"""Stages x recipes: the tasks that doit sees."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from typing import Any

from doit.exceptions import TaskFailed

from .. import console, paths, settings
from ..errors import LoadError, UserError, nearest, reason
from ..recipe import Recipe, survey
from ..training import checkpoints
from . import stage
from .stage import Stage, TaskDict

# doit reads the first word of its command line as a command before it looks for a task.
COMMANDS = (
    "catalog check clean compare completion doctor dumpdb forget gc help ignore info list log new "
    "plan report reset-dep run ship strace tabcompletion test toolchain unship update why"
).split()

# Tasks that there are of each model beside its stages.
OF_MODELS = ("ship", "unship", "update")


def reserved(stages: Mapping[str, Stage]) -> frozenset[str]:
    """Return the names that no model may have."""
    return frozenset([*stages, *COMMANDS, "index.html", "ledger.jsonl"])


def recipes(stages: Mapping[str, Stage]) -> tuple[list[Recipe], dict[str, list[str]]]:
    """Return all recipes as this run is to have them: the command line has the last word.

    Returns:
        Those that can be read, and the faults of the others by name.

    Raises:
        LoadError: every fault of the command line.
    """
    found, broken = survey(reserved(stages))
    return checkpoints.override(found), broken


def default(recipes: Sequence[Recipe], broken: Iterable[str] = ()) -> list[str]:
    """Return what plain `doit` builds: the model that the settings name, else the first there is.

    Args:
        broken: names of models whose recipes cannot be read; a command that is about one says so.

    Raises:
        LoadError: the settings name a model that there is not.
    """
    found, names = settings.current(), [*(recipe.name for recipe in recipes), *broken]
    if found.default in names or not names:
        return [found.default]
    if "default" in found.sources:
        guess = nearest(found.default, names) or f"; there are {', '.join(names)}"
        raise LoadError([f"{found.where('default')}: no recipe '{found.default}'{guess}"])
    return names[:1]


def tasks(stages: Mapping[str, Stage], recipes: Sequence[Recipe]) -> Iterator[TaskDict]:
    """Yield the stages and, below each, one task for every recipe that asks for it."""
    for name, module in stages.items():
        yield stage.group(name, module)
        for recipe in recipes:
            if module.wanted(recipe):
                yield stage.build(stages, name, recipe)


def models(
    stages: Mapping[str, Stage], on_request: Set[str], recipes: Sequence[Recipe]
) -> Iterator[TaskDict]:
    """Yield one task for each model, which is all of its local stages."""
    for recipe in recipes:
        wanted = [
            name
            for name, module in stages.items()
            if name not in on_request and module.wanted(recipe)
        ]
        label = recipe.base.label
        origin = os.path.normpath(recipe.beside(label)) if recipe.base.path else label
        doc = f"Build {recipe.name} from {origin}."
        yield {
            "basename": recipe.name,
            "actions": None,
            "task_dep": [f"{name}:{recipe.name}" for name in wanted],
            "clean": [(stage.clean, [name, recipe]) for name in wanted],
            "doc": doc,
        }


def updates(stages: Mapping[str, Stage], recipes: Sequence[Recipe]) -> Iterator[TaskDict]:
    """Yield one task for each model that looks up anew what its moving names stand for."""
    doc = "Look up anew what the branches and tags of a recipe stand for."
    yield {"basename": "update", "name": None, "doc": doc}
    for recipe in recipes:
        moving = [m for m in stages.values() if hasattr(m, "update") and m.wanted(recipe)]
        yield {
            "basename": "update",
            "name": recipe.name,
            "doc": f"{recipe.file.name} -> {recipe.name}.lock",
            "actions": [(_update, [moving, recipe])],
            "verbosity": 2,
        }


def _update(moving: Sequence[Any], recipe: Recipe) -> TaskFailed | None:
    console.start(f"update:{recipe.name}")
    try:
        for module in moving:
            module.update(recipe)
    except (UserError, OSError) as error:
        return TaskFailed(reason(error, paths.build()))
    return None
