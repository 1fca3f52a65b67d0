"""The tasks that a command was asked about, and what the plan says of each."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

from doit.control import TaskControl

from ..engine import plan
from ..engine.plan import Step
from ..engine.stage import Stage
from ..recipe import Recipe

COLOURS = {plan.FRESH: "green", plan.RESTORE: "cyan", plan.RUN: "yellow"}


def steps(task_list: Sequence[Any], selected: Sequence[str]) -> list[Step]:
    """Return the plan for some tasks and all that they need, in the order of running."""
    found: list[Step] = []
    planner: plan.Planner | None = None
    for task in _closure(task_list, selected):
        if "recipe" in (task.meta or {}):
            planner = planner or plan.Planner(task.meta["stages"])
            found.append(planner.judge(task.meta["stage"], task.meta["recipe"]))
    return found


def stages(task_list: Sequence[Any], names: Sequence[str]) -> list[tuple[str, Stage, Recipe]]:
    """Return some tasks and all that they need: the stage's name, the stage, the recipe."""
    return _stages(_closure(task_list, names))


def named(task_list: Sequence[Any], words: Sequence[str]) -> list[tuple[str, Stage, Recipe]]:
    """Return what a build of some words would look at, and leave the words' options to doit.

    It reads them once, and forgets those of a second reading.
    """
    all_names, patterns = [task.name for task in task_list], [w for w in words if "*" in w]
    plain = {*words, *(n for pattern in patterns for n in fnmatch.filter(all_names, pattern))}
    names = [name for name in all_names if name in plain]
    return _stages(_with_needs(TaskControl(task_list), names, task_list))


def _stages(tasks: Iterable[Any]) -> list[tuple[str, Stage, Recipe]]:
    metas = [task.meta for task in tasks if "recipe" in (task.meta or {})]
    return [(meta["stage"], meta["stages"][meta["stage"]], meta["recipe"]) for meta in metas]


def _closure(task_list: Sequence[Any], selected: Sequence[str]) -> list[Any]:
    """Return the tasks that some tasks need, and they themselves, each after what it needs."""
    control = TaskControl(task_list)
    control.process(selected)
    return _with_needs(control, control.selected_tasks, task_list)


def _with_needs(control: TaskControl, names: Iterable[str], task_list: Sequence[Any]) -> list[Any]:
    order: dict[str, Any] = {}
    # doit keeps what a task depends on in sets, whose order changes from one run to the next.
    place = {task.name: at for at, task in enumerate(task_list)}

    def visit(name: str) -> None:
        task = control.tasks[name]
        if name not in order:
            for before in sorted(task.task_dep, key=place.__getitem__):
                visit(before)
            order[name] = task

    for name in names:
        visit(name)
    return list(order.values())
