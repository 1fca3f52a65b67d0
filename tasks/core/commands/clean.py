"""`doit clean`: results go."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Any

from doit.cmd_base import DoitCmdBase

from .anyorder import AnyOrder, no_task


class Clean(AnyOrder, DoitCmdBase):  # type: ignore[misc]  # doit is untyped
    """Our own clean: doit's prints Python objects, and takes along what a task needs.

    That would be the toolchain, gigabytes of it, with every `doit clean`.
    """

    doc_purpose = "remove results, logs and unfinished work"
    doc_usage = "[TASK ...]"
    doc_description = (
        "Without a word: those of the default model.  A toolchain goes only when it is named; what "
        "the store has of a result stays there, and comes back at once."
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
            "help": "the results of all models",
        },
    )

    def _execute(self, dryrun: bool, all: bool) -> int:  # noqa: A002  # the option's name
        tasks = {task.name: task for task in self.task_list}
        every = [name for name, task in tasks.items() if "stage" in (task.meta or {})]
        for name in every if all else _named(tasks, self.sel_tasks):
            for action in tasks[name].clean_actions:
                action.py_callable(*action.args, dryrun=dryrun)
        return 0


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
