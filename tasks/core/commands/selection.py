"""The tasks that a command was asked about, and what the plan says of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from doit.control import TaskControl

from ..engine import plan
from ..engine.plan import Step
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


def stages(task_list: Sequence[Any], names: Sequence[str]) -> list[tuple[str, Recipe]]:
    """Return some tasks and all that they need, as pairs of stage and recipe."""
    metas = [task.meta or {} for task in _closure(task_list, names)]
    return [(meta["stage"], meta["recipe"]) for meta in metas if "recipe" in meta]


def _closure(task_list: Sequence[Any], selected: Sequence[str]) -> list[Any]:
    """Return the tasks that some tasks need, and they themselves, each after what it needs."""
    control = TaskControl(task_list)
    control.process(selected)
    order: dict[str, Any] = {}
    # doit keeps what a task depends on in sets, whose order changes from one run to the next.
    place = {task.name: at for at, task in enumerate(task_list)}

    def visit(name: str) -> None:
        task = control.tasks[name]
        if name not in order:
            for before in sorted(task.task_dep, key=place.__getitem__):
                visit(before)
            order[name] = task

    for name in control.selected_tasks:
        visit(name)
    return list(order.values())
