"""doit's commands of ours: plan, why, check, gc."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from doit.cmd_base import DoitCmdBase
from doit.control import TaskControl

from . import console, digests, inputs, manifest, paths, plan, publish, store, terminal
from .anyorder import AnyOrder
from .errors import LoadError, UserError
from .inputs import NotReady
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
COLOURS = {plan.FRESH: "green", plan.RESTORE: "cyan", plan.RUN: "yellow"}


class Plan(AnyOrder, DoitCmdBase):  # type: ignore[misc]  # doit is untyped
    """`doit plan`: what would run, in what order, why, and at what cost."""

    doc_purpose = "say what would run, why, and what it will cost"
    doc_usage = "[TASK ...]"
    doc_description = "Exit status 0 when nothing would run, 1 otherwise."
    cmd_options = (JSON,)

    def _execute(self, json: bool) -> int:
        found = steps(self.task_list, self.sel_tasks)
        if json:
            terminal.write_json([asdict(step) for step in found])
        else:
            terminal.write(_table(found))
        return int(any(step.verdict != plan.FRESH for step in found))


class Why(AnyOrder, DoitCmdBase):  # type: ignore[misc]  # doit is untyped
    """`doit why TASK`: all the reasons for one task."""

    doc_purpose = "say why a task would run"
    doc_usage = "TASK"
    doc_description = None
    cmd_options = (JSON,)

    def _execute(self, json: bool) -> int:
        found = steps(self.task_list, self.sel_tasks)
        wanted = [step for step in found if step.task in self.sel_tasks] or found[-1:]
        if json:
            terminal.write_json([asdict(step) for step in wanted])
        else:
            terminal.write(line for step in wanted for line in _reasons(step))
        return 0


class Check(AnyOrder, DoitCmdBase):  # type: ignore[misc]  # doit is untyped
    """`doit check`: read every byte of every result and of the store again."""

    doc_purpose = "read all results again and tell what is not as it was made"
    doc_usage = "[TASK ...]"
    doc_description = "Exit status 0 when all is well, 1 otherwise; the next build makes it anew."
    cmd_options = (JSON,)

    def _execute(self, json: bool) -> int:
        names = self.sel_tasks if not self.sel_default_tasks else [t.name for t in self.task_list]
        bad = []
        for name, recipe in _stages(self.task_list, names):
            receipt = manifest.read(paths.manifest(recipe.name, name))
            for path in _audit(receipt) if receipt else ():
                bad.append({"task": f"{name}:{recipe.name}", "path": str(path)})
                if not json:
                    cure = f"`doit {name}:{recipe.name}` makes it"
                    console.say(f"{path}: not as it was made; {cure}")
        if json:
            terminal.write_json(bad)
        else:
            few = "1 file is not" if len(bad) == 1 else f"{len(bad)} files are not"
            said = few if bad else "all results are as they were made"
            console.say(said)
        return int(bool(bad))


class Gc(AnyOrder, DoitCmdBase):  # type: ignore[misc]  # doit is untyped
    """`doit gc`: shrink the store, drop downloads and unfinished work that nobody needs."""

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
        JSON,
    )

    def _execute(self, all: bool, json: bool) -> int:  # noqa: A002  # the option's name
        try:
            freed = store.collect(0 if all else store.limit()) + downloads.collect()
            freed += _collect_unfinished(self.task_list)
        except UserError as error:
            raise LoadError([str(error)]) from None
        if json:
            terminal.write_json({"freed": freed, "build": str(paths.build())})
        else:
            console.say(f"{console.size(freed)} freed in {paths.build()}")
        return 0


def _collect_unfinished(task_list: Sequence[Any]) -> int:
    """Drop unfinished work that no recipe would go on with; return the bytes that were freed."""
    freed = 0
    for task in task_list:
        meta = task.meta or {}
        if "recipe" in meta:
            name, recipe = meta["stage"], meta["recipe"]
            with contextlib.suppress(UserError, NotReady, OSError):
                key = manifest.key_of(name, inputs.gather(meta["stages"][name], recipe))
                freed += publish.collect(recipe.name, name, key)
    return freed


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


def _stages(task_list: Sequence[Any], names: Sequence[str]) -> list[tuple[str, Recipe]]:
    metas = [task.meta or {} for task in _closure(task_list, names)]
    return [(meta["stage"], meta["recipe"]) for meta in metas if "recipe" in meta]


def _audit(receipt: Manifest) -> Iterator[Path]:
    """Read a result's files; yield those that are not what the manifest has."""
    folder = paths.output(receipt.model, receipt.stage)
    for file in receipt.files:
        path = folder / file.path
        console.status(f"reading {path}")
        try:
            good = digests.read(path) == file.digest
        except OSError:
            good = False
        console.clear()
        if not good:
            digests.forget(path)
            yield path


def _table(found: Sequence[Step]) -> list[str]:
    rows = [(step.task, _verdict(step), _took(step), _in_short(step)) for step in found]
    counts = {v: sum(s.verdict == v for s in found) for v in (plan.RUN, plan.RESTORE, plan.FRESH)}
    seconds = sum(step.seconds or 0 for step in found)
    took = f"; about {console.duration(seconds)}" if seconds else ""
    text = f"{counts['run']} to run, {counts['restore']} to restore, {counts['fresh']} fresh{took}"
    return [*terminal.table(rows), text]


def _in_short(step: Step) -> str:
    more = f" (+{len(step.reasons) - 1} more)" if len(step.reasons) > 1 else ""
    return f"{step.reasons[0]}{more}" if step.reasons else ""


def _reasons(step: Step) -> list[str]:
    """Return a heading and every reason below it."""
    took = f", {_took(step)}" if step.seconds is not None else ""
    link = " is" if step.verdict == plan.FRESH else ":"
    head = f"{terminal.paint(step.task, 'bold')}{link} {_verdict(step)}{took}"
    return [head, *terminal.table([(reason,) for reason in step.reasons], indent=2)]


def _took(step: Step) -> str:
    return f"~{console.duration(step.seconds)}" if step.seconds is not None else ""


def _verdict(step: Step) -> str:
    return terminal.paint(step.verdict, COLOURS[step.verdict])
