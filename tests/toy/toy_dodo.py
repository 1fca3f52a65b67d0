"""Two stages, `first` and `second`, that make their files by way of real processes."""

from collections.abc import Iterator

from tasks.core import recipe, reporter
from tasks.core.engine import memory, pipeline
from tasks.core.engine.stage import Stage, TaskDict
from tests.toy import first, second

STAGES: dict[str, Stage] = {"first": first, "second": second}
RECIPES = recipe.load()
DOIT_CONFIG = {
    "default_tasks": ["second"],
    "check_file_uptodate": memory.Checker,
    "reporter": reporter.Reporter,
    "par_type": "thread",
}


def task_pipeline() -> Iterator[TaskDict]:
    """One task for each stage and model."""
    yield from pipeline.tasks(STAGES, RECIPES)
