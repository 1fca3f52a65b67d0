"""`doit clean`: results go."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from typing import Any

from doit.cmd_base import DoitCmdBase

from .. import console, paths
from ..errors import LoadError, UserError, nearest, reason
from . import terminal
from .anyorder import AnyOrder, no_task


class Clean(AnyOrder, DoitCmdBase):  # type: ignore[misc]  # doit is untyped
    """Our own clean: doit's prints Python objects, and takes along what a task needs.

    That would be the toolchain, gigabytes of it, with every `doit clean`.
    """

    doc_purpose = "remove results, logs and unfinished work"
    doc_usage = "[TASK ...]"
    doc_description = (
        "Without a word: those of the default model.  A toolchain goes only when it is named; what "
        "left this machine is `doit unship`'s to take back, and its receipts stay.  What the store "
        "has of a result stays there, and comes back at once."
    )
    cmd_options = (
        {
            "name": "dryrun",
            "short": "n",
            "long": "dry-run",
            "type": bool,
            "default": False,
            "help": "say what would go",
        },
        {
            "name": "all",
            "short": "a",
            "long": "all",
            "type": bool,
            "default": False,
            "help": "all stages: of the models that are named, else of every model",
        },
    )

    def _execute(self, dryrun: bool, all: bool) -> int:  # noqa: A002  # the option's name
        tasks = {task.name: task for task in self.task_list}
        if all:
            names = _of_models(tasks, [] if self.sel_default_tasks else self.sel_tasks)
        else:
            names = _named(tasks, self.sel_tasks)
        return terminal.failed([fault for name in names for fault in _clean(tasks[name], dryrun)])


def _clean(task: Any, dryrun: bool) -> Iterator[str]:
    """Clean a task; yield what could not be."""
    from tasks import OUTWARD

    meta = task.meta or {}
    if meta.get("stage") in OUTWARD:
        _leave(meta["stage"], meta["recipe"].name)
        return
    for action in task.clean_actions:
        try:
            action.py_callable(*action.args, dryrun=dryrun)
        except (UserError, OSError) as error:
            yield reason(error, paths.build())


def _leave(stage: str, model: str) -> None:
    """Say that a receipt stays: without it nobody could take back what it tells of."""
    place = paths.output(model, stage)
    if place.exists():
        console.say(f"{place} stays: what left this machine, `doit unship:{model}` takes back")


def _of_models(tasks: Mapping[str, Any], words: list[str]) -> list[str]:
    """Return all stages of the models that words name, or of every model.

    Raises:
        LoadError: a word is no model.
    """
    found = {n: t.meta["recipe"].name for n, t in tasks.items() if "stage" in (t.meta or {})}
    for word in words:
        if word not in found.values():
            guess = nearest(word, found.values()) or "; `doit list` shows all models"
            raise LoadError([f"clean --all: '{word}' is no model{guess}"])
    return [name for name, model in found.items() if not words or model in words]


def _named(tasks: Mapping[str, Any], words: list[str]) -> list[str]:
    """Return the tasks that words mean: a stage's name is all of its tasks.

    Raises:
        LoadError: a word means none.
    """
    found: list[str] = []
    for word in words:
        named = fnmatch.filter(tasks, word) if "*" in word else [word] * (word in tasks)
        if not named:
            raise no_task(word, list(tasks))
        found += [*named, *(name for name, task in tasks.items() if task.subtask_of in named)]
    return list(dict.fromkeys(found))
