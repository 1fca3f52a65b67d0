"""The tasks that a command was asked about, and what the plan says of each."""

from __future__ import annotations

from collections.abc import Sequence
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
    metas = [task.meta for task in _closure(task_list, names) if "recipe" in (task.meta or {})]
    return [(meta["stage"], meta["stages"][meta["stage"]], meta["recipe"]) for meta in metas]


def _closure(task_list: Sequence[Any], selected: Sequence[str]) -> list[Any]:
    """Return the tasks that some tasks need, and they themselves, each after what it needs."""
    control = TaskControl(task_list)
    control.process([*selected])  # doit takes the words out of the list as it reads them
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
