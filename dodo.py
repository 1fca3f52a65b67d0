"""Build every model described in recipes/.  Try `doit list`, `doit plan` or plain `doit`."""

import gc
from collections.abc import Iterator

from tasks import ON_REQUEST, OUTWARD, STAGES
from tasks.core import console
from tasks.core.engine import memory, pipeline, shipping, untouched
from tasks.core.engine.stage import TaskDict
from tasks.core.toolchains import toolchain

# Recipes and tasks live to the end: Python need not look among thousands of them for garbage.
gc.set_threshold(100_000)
console.outlive_reader()
untouched.watch()
RECIPES = pipeline.recipes(STAGES)
DOIT_CONFIG = {
    "default_tasks": pipeline.default(RECIPES),
    "check_file_uptodate": memory.Checker,
    "reporter": console.Reporter,
    "par_type": "thread",
}


def task_pipeline() -> Iterator[TaskDict]:
    """One task for each stage and model, in the order of the stages; one for each whole model."""
    yield from pipeline.tasks(STAGES, RECIPES)
    yield from pipeline.models(STAGES, ON_REQUEST, RECIPES)


def task_ship() -> Iterator[TaskDict]:
    """All that leaves this machine, and all that back."""
    yield from shipping.tasks(STAGES, OUTWARD, RECIPES)


def task_update() -> Iterator[TaskDict]:
    """What a recipe's branches and tags stand for, looked up anew."""
    yield from pipeline.updates(STAGES, RECIPES)


def task_toolchain() -> Iterator[TaskDict]:
    """The environments that foreign tools run in."""
    yield from toolchain.tasks()
