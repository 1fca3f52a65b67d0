"""`doit info TASK`: all that is known of a task: its state, what goes in, what came out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from doit.cmd_info import Info as DoitInfo

from .. import console, paths
from ..engine import ledger, manifest, plan
from ..engine.manifest import Manifest
from ..engine.plan import Step
from ..errors import LoadError
from . import selection, terminal
from .anyorder import JSON, AnyOrder, no_task


class Info(AnyOrder, DoitInfo):  # type: ignore[misc]  # doit is untyped
    """Our own info: doit's prints the Python objects that a task is made of."""

    doc_purpose = "show a task: state, inputs, results, log"
    doc_usage = "TASK"
    doc_description = (
        "Values of the recipe are shown as they entered the result's key.  "
        "Exit status 0 when the task is fresh, 1 otherwise."
    )
    cmd_options = (*DoitInfo.cmd_options, JSON)

    def _execute(
        self, pos_args: Sequence[str], hide_status: bool = False, json: bool = False
    ) -> int:
        names = [task.name for task in self.task_list]
        if len(pos_args) != 1:
            raise LoadError(["`doit info`: give one task, such as train:tiny-agent"])
        if pos_args[0] not in names:
            raise no_task(pos_args[0], names)
        task = next(task for task in self.task_list if task.name == pos_args[0])
        if "recipe" not in (task.meta or {}):
            about = {"task": task.name, "doc": task.doc, "needs": needs(task)}
            _show(about, json=json)
            return 0
        step = None if hide_status else selection.steps(self.task_list, [task.name])[-1]
        _show(told(task, step), json=json)
        return int(step is not None and step.verdict != plan.FRESH)


def told(task: Any, step: Step | None) -> dict[str, Any]:
    """Return what is known of a stage's task, in the order in which people ask."""
    stage, recipe = task.meta["stage"], task.meta["recipe"]
    receipt = manifest.of(recipe.name, stage)
    log = paths.log(recipe.name, stage)
    runs = [
        run
        for run in ledger.lines()
        if receipt and run.get("model") == recipe.name and run.get("key") == receipt.key
    ]
    return {
        "task": task.name,
        "doc": task.doc,
        "state": step and step.verdict,
        "reasons": list(step.reasons) if step else [],
        "recipe": str(recipe.file),
        "needs": needs(task),
        "targets": list(task.targets),
        "last_run": runs[-1] if runs else None,
        "log": str(log) if log.exists() else None,
        "result": asdict(receipt) if receipt else None,
    }


def needs(task: Any) -> list[str]:
    """Return what must be there before: stages in their order, toolchains, files."""
    order = list((task.meta or {}).get("stages", ()))
    rank = {name: at for at, name in enumerate(order)}
    before = sorted(task.task_dep, key=lambda name: rank.get(name.partition(":")[0], len(order)))
    return [*before, *sorted(file for file in task.file_dep if not file.endswith(manifest.NAME))]


def _show(about: Mapping[str, Any], *, json: bool) -> None:
    if json:
        terminal.write_json(about)
        return
    rows = [
        (head * (number == 0), line)
        for head, lines in _parts(about)
        for number, line in enumerate(lines)
    ]
    name = terminal.paint(about["task"], "bold")
    terminal.write([f"{name}  {about['doc'] or ''}", *terminal.table(rows)])


def _parts(about: Mapping[str, Any]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield a head and its lines for each thing that is known."""
    state = about.get("state")
    if state:
        yield "state", [terminal.paint(state, selection.COLOURS[state]), *about["reasons"]]
    if about.get("recipe"):
        yield "recipe", [about["recipe"]]
    yield "needs", about.get("needs", ())
    yield "targets", about.get("targets", ())
    run, raw = about.get("last_run"), about.get("result")
    if run:
        took = console.duration(run.get("seconds", 0))
        yield "made", [f"{run.get('time')} on {run.get('host')}, {run.get('how')} in {took}"]
    if about.get("log"):
        yield "log", [about["log"]]
    if raw:
        yield from _result(Manifest(**{**raw, "files": ()}), raw["files"])


def _result(
    receipt: Manifest, files: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, list[str]]]:
    inputs = {**receipt.inputs, **receipt.inputs.get("recipe", {})}
    yield "key", [receipt.key]
    yield "inputs", _pairs({name: value for name, value in inputs.items() if name != "recipe"})
    yield "facts", _pairs(receipt.facts)
    rows = [(f["path"], console.size(f["size"]), plan.show(f["digest"])) for f in files]
    yield "files", terminal.table(rows)


def _pairs(values: Mapping[str, Any]) -> list[str]:
    rows = [(name, plan.show(value)) for name, value in sorted(values.items())]
    return terminal.table(rows)
