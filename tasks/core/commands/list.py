"""`doit list`: the stages, or all tasks, in the order of the pipeline."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from doit.cmd_list import List as DoitList

from . import selection, terminal
from .anyorder import JSON, AnyOrder, no_task

STATUS = {
    "name": "status",
    "short": "s",
    "long": "status",
    "type": bool,
    "default": False,
    "help": "say in what state each task is",
}
OPTIONS = [STATUS if each["name"] == "status" else each for each in DoitList.cmd_options]


class List(AnyOrder, DoitList):  # type: ignore[misc]  # doit is untyped
    """doit's own list, with states in words, JSON, and lines that fit the terminal."""

    doc_purpose = "list stages and models; with --all every task"
    doc_description = (
        "A state is fresh, restore (from the store) or run; a stage's or a model's own line has "
        "none."
    )
    cmd_options = (*OPTIONS, JSON)

    def _execute(  # one argument an option: doit goes by their names
        self,
        subtasks: bool = False,
        quiet: bool = False,
        status: bool = False,
        private: bool = False,
        list_deps: bool = False,
        template: str | None = None,
        sort: str = "definition",
        pos_args: Sequence[str] = (),
        json: bool = False,
    ) -> int:
        if list_deps or template:
            code: int = super()._execute(
                subtasks, quiet, status, private, list_deps, template, sort, pos_args
            )
            return code
        by_name = {task.name: task for task in self.task_list}
        for word in pos_args:
            if word not in by_name:
                raise no_task(word, list(by_name))
        found = (
            self._list_filtered(by_name, pos_args, subtasks)
            if pos_args
            else self._list_all(subtasks)
        )
        shown = [task for task in found if private or not task.name.startswith("_")]
        shown = sorted(shown) if sort == "name" else shown
        states = _states(self.task_list, shown) if status else {}
        told = [_told(task, states) for task in shown]
        told += [] if pos_args else _broken(self.loader.broken)
        if json:
            terminal.write_json(told)
        else:
            terminal.write(_lines(told, quiet=quiet, status=status))
        return 0


def _states(task_list: Sequence[Any], shown: Sequence[Any]) -> dict[str, str]:
    names = [task.name for task in shown if "stage" in (task.meta or {})]
    steps = selection.steps(task_list, names) if names else []
    return {step.task: step.verdict for step in steps}


def _told(task: Any, states: Mapping[str, str]) -> dict[str, Any]:
    meta = task.meta or {}
    model = meta["recipe"].name if "recipe" in meta else None
    about = {"task": task.name, "doc": task.doc, "stage": meta.get("stage"), "model": model}
    return {**about, "state": states[task.name]} if task.name in states else about


def _broken(found: Mapping[str, Sequence[str]]) -> Iterator[dict[str, Any]]:
    """Yield the models whose recipes cannot be read; of which stages they are, nobody can tell."""
    for name, faults in found.items():
        doc = f"cannot be read; `doit info {shlex.quote(name)}` says why"
        yield {"task": name, "doc": doc, "stage": None, "model": name, "faults": list(faults)}


def _lines(told: Sequence[Mapping[str, Any]], *, quiet: bool, status: bool) -> list[str]:
    rows = [
        (
            *([_painted(about.get("state", ""))] if status else []),
            about["task"],
            *([] if quiet else [about["doc"] or ""]),
        )
        for about in told
    ]
    return terminal.table(rows, gap=3)


def _painted(state: str) -> str:
    return terminal.paint(state, selection.COLOURS.get(state, "bold"))
