"""doit's commands of ours: plan, why, check, gc."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from doit.cmd_base import DoitCmdBase
from doit.control import TaskControl

from . import console, digests, manifest, paths, plan, store
from .errors import LoadError, UserError
from .manifest import Manifest
from .plan import Step
from .recipe import Recipe
from .sources import downloads

JSON = {
    "name": "json",
    "long": "json",
    "type": bool,
    "default": False,
    "help": "print JSON for other programs",
}


class Plan(DoitCmdBase):  # type: ignore[misc]  # doit is untyped
    """`doit plan`: what would run, in what order, why, and at what cost."""

    doc_purpose = "say what would run, why, and what it will cost"
    doc_usage = "[TASK ...]"
    doc_description = "Exit status 0 when nothing would run, 1 otherwise."
    cmd_options = (JSON,)

    def _execute(self, json: bool) -> int:
        found = steps(self.task_list, self.sel_tasks)
        if json:
            _print_json([asdict(step) for step in found])
        else:
            _print_plan(found)
        return int(any(step.verdict != plan.FRESH for step in found))


class Why(DoitCmdBase):  # type: ignore[misc]  # doit is untyped
    """`doit why TASK`: all the reasons for one task."""

    doc_purpose = "say why a task would run"
    doc_usage = "TASK"
    doc_description = None
    cmd_options = (JSON,)

    def _execute(self, json: bool) -> int:
        found = steps(self.task_list, self.sel_tasks)
        wanted = [step for step in found if step.task in self.sel_tasks] or found[-1:]
        if json:
            _print_json([asdict(step) for step in wanted])
            return 0
        for step in wanted:
            console.say(
                f"{step.task} is {step.verdict}" if step.verdict == plan.FRESH else _line(step)
            )
            for reason in step.reasons:
                console.say(f"  {reason}")
        return 0


class Check(DoitCmdBase):  # type: ignore[misc]  # doit is untyped
    """`doit check`: read every byte of every result and of the store again."""

    doc_purpose = "read all results again and tell what is not as it was made"
    doc_usage = "[TASK ...]"
    doc_description = "Exit status 0 when all is well, 1 otherwise; the next build makes it anew."
    cmd_options = ()

    def _execute(self) -> int:
        names = self.sel_tasks if not self.sel_default_tasks else [t.name for t in self.task_list]
        bad = 0
        for name, recipe in _stages(self.task_list, names):
            receipt = manifest.read(paths.manifest(recipe.name, name))
            if receipt:
                bad += _audit(receipt)
        console.say("all results are as they were made" if not bad else f"{bad} files are not")
        return int(bad > 0)


class Gc(DoitCmdBase):  # type: ignore[misc]  # doit is untyped
    """`doit gc`: shrink the store, and drop downloads that nothing links to."""

    doc_purpose = "drop from the store what was used longest ago, down to its limit"
    doc_usage = ""
    doc_description = "The limit is the setting MODELWRIGHT_STORE_LIMIT."
    cmd_options = (
        {
            "name": "all",
            "long": "all",
            "type": bool,
            "default": False,
            "help": "drop everything that no build folder shares",
        },
    )

    def _execute(self, all: bool) -> int:  # noqa: A002  # the option's name
        try:
            freed = store.collect(0 if all else store.limit()) + downloads.collect()
        except UserError as error:
            raise LoadError([str(error)]) from None
        console.say(f"{console.size(freed)} freed in {paths.build()}")
        return 0


def steps(task_list: Sequence[Any], selected: Sequence[str]) -> list[Step]:
    """Return the plan for some tasks and all that they need, in the order of running."""
    found: list[Step] = []
    planner: plan.Planner | None = None
    for task in _closure(task_list, selected):
        if "recipe" in (task.meta or {}):
            planner = planner or plan.Planner(task.meta["stages"])
            found.append(planner.judge(task.meta["stage"], task.meta["recipe"]))
    return found


def _closure(task_list: Sequence[Any], selected: Sequence[str]) -> list[Any]:
    """Return the tasks that some tasks need, and they themselves, each after what it needs."""
    control = TaskControl(task_list)
    control.process(selected)
    order: dict[str, Any] = {}

    def visit(name: str) -> None:
        task = control.tasks[name]
        if name not in order:
            for before in task.task_dep:
                visit(before)
            order[name] = task

    for name in control.selected_tasks:
        visit(name)
    return list(order.values())


def _stages(task_list: Sequence[Any], names: Sequence[str]) -> list[tuple[str, Recipe]]:
    metas = [task.meta or {} for task in _closure(task_list, names)]
    return [(meta["stage"], meta["recipe"]) for meta in metas if "recipe" in meta]


def _audit(receipt: Manifest) -> int:
    """Read a result's files; say which are not what the manifest has.  Return how many."""
    folder, bad = paths.output(receipt.model, receipt.stage), 0
    for file in receipt.files:
        path = folder / file.path
        console.status(f"reading {path}")
        try:
            good = digests.read(path) == file.digest
        except OSError:
            good = False
        if not good:
            bad += 1
            digests.forget(path)
            console.clear()
            console.say(
                f"{path}: not as it was made; `doit {receipt.stage}:{receipt.model}` makes it"
            )
    console.clear()
    return bad


def _print_plan(found: Sequence[Step]) -> None:
    width = max((len(step.task) for step in found), default=0)
    for step in found:
        console.say(_line(step, width))
    counts = {v: sum(s.verdict == v for s in found) for v in (plan.RUN, plan.RESTORE, plan.FRESH)}
    seconds = sum(step.seconds or 0 for step in found)
    took = f"; about {console.duration(seconds)}" if seconds else ""
    text = f"{counts['run']} to run, {counts['restore']} to restore, {counts['fresh']} fresh{took}"
    console.say(text)


def _line(step: Step, width: int = 0) -> str:
    reasons = step.reasons[0] if step.reasons else ""
    more = f" (+{len(step.reasons) - 1} more)" if len(step.reasons) > 1 else ""
    took = f"  ~{console.duration(step.seconds)}" if step.seconds is not None else ""
    return f"{step.task:<{width}}  {step.verdict:<7}{took:>9}  {reasons}{more}".rstrip()


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))
