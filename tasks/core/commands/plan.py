"""`doit plan` and `doit why`: what would run, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from doit.cmd_base import DoitCmdBase

from .. import console
from ..engine import plan
from ..engine.plan import Step
from . import terminal
from .anyorder import JSON, AnyOrder
from .selection import COLOURS, steps


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
    """`doit why TASK`: all the reasons for one task, or for all that would run of a model."""

    doc_purpose = "say why a task would run"
    doc_usage = "[STAGE:MODEL | MODEL ...]"
    doc_description = "Of a model, or without a word: why each of its stages would run."
    cmd_options = (JSON,)

    def _execute(self, json: bool) -> int:
        found = steps(self.task_list, self.sel_tasks)
        named = [step for step in found if step.task in self.sel_tasks]
        wanted = named or [step for step in found if step.verdict != plan.FRESH]
        if json:
            terminal.write_json([asdict(step) for step in wanted])
        elif wanted:
            terminal.write(line for step in wanted for line in _reasons(step))
        else:
            console.say(f"nothing would run: {len(found)} stages are fresh")
        return 0


def _table(found: Sequence[Step]) -> list[str]:
    rows = [(step.task, _verdict(step), _took(step), _in_short(step)) for step in found]
    counts = {v: sum(s.verdict == v for s in found) for v in (plan.RUN, plan.RESTORE, plan.FRESH)}
    seconds = sum(step.seconds or 0 for step in found)
    untimed = sum(step.verdict == plan.RUN and step.seconds is None for step in found)
    rest = f", and {untimed} that never ran here" if untimed else ""
    took = f"; about {console.duration(seconds)}{rest}" if seconds else ""
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
