"""What the last line of a build counts."""

from __future__ import annotations

import io

import pytest
from doit.exceptions import TaskFailed, UnmetDependency
from doit.task import Task

from tasks.core.reporter import Reporter

A, B, C = (Task(name, ["true"]) for name in "abc")
GROUP = Task("all", None)


@pytest.fixture
def reporter() -> Reporter:
    return Reporter(io.StringIO(), {})


def last_line(reporter: Reporter) -> str:
    """Return the end of what was said, without how long it took."""
    reporter.complete_run()
    said: str = reporter.outstream.getvalue().splitlines()[-1]
    return said.replace(" in 0.0 s", "")


def test_a_task_that_was_stopped_did_not_run(reporter: Reporter) -> None:
    for task in (A, B, GROUP):
        reporter.execute_task(task)
        reporter.add_success(task)
    reporter.execute_task(C)
    assert last_line(reporter) == "2 tasks ran, 1 stopped"


def test_tasks_side_by_side_are_stopped_together(reporter: Reporter) -> None:
    for task in (A, B):
        reporter.execute_task(task)
    assert last_line(reporter) == "0 tasks ran, 2 stopped"


def test_what_failed_ran_and_what_waited_for_it_did_not(reporter: Reporter) -> None:
    reporter.execute_task(A)
    reporter.add_failure(A, TaskFailed("no"))
    reporter.add_failure(B, UnmetDependency("a"))
    assert last_line(reporter) == "1 task ran, 1 failed, 1 could not begin"
