"""Build every model described in recipes/.  Try `doit list`, `doit plan` or plain `doit`."""

from collections.abc import Iterator

from tasks import ON_REQUEST, OUTWARD, STAGES
from tasks.core import reporter, unheard
from tasks.core.engine import memory, pipeline, shipping, stage, untouched
from tasks.core.toolchains import toolchain

unheard.outlive_output()
untouched.watch()
RECIPES, BROKEN = pipeline.recipes(STAGES)
DOIT_CONFIG = {
    "default_tasks": pipeline.default(RECIPES, BROKEN),
    "check_file_uptodate": memory.Checker,
    "reporter": reporter.Reporter,
    "par_type": "thread",
}


def task_pipeline() -> Iterator[stage.TaskDict]:
    """One task for each stage and model, in the order of the stages; one for each whole model."""
    yield from pipeline.tasks(STAGES, RECIPES)
    yield from pipeline.models(STAGES, ON_REQUEST, RECIPES)


def task_ship() -> Iterator[stage.TaskDict]:
    """All that leaves this machine, and all that back."""
    yield from shipping.tasks(STAGES, OUTWARD, RECIPES)


def task_update() -> Iterator[stage.TaskDict]:
    """What a recipe's branches and tags stand for, looked up anew."""
    yield from pipeline.updates(STAGES, RECIPES)


def task_toolchain() -> Iterator[stage.TaskDict]:
    """The environments that foreign tools run in."""
    yield from toolchain.tasks()
