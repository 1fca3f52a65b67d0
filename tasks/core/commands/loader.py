"""What doit loads: a recipe that cannot be read stops what is about it, or about all models."""

from __future__ import annotations

import fnmatch
import shlex
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from doit.cmd_base import DodoTaskLoader

from .. import paths, textfile
from ..engine import pipeline, untouched
from ..errors import LoadError
from . import terminal

# Asked about all, these tell of what there is.  The others would build or judge all, or the
# default, which may be another model once the recipe is mended: they refuse.
SURVEYS = frozenset({"completion", "gc", "help", "info", "list", "report"})


class Loader(DodoTaskLoader):  # type: ignore[misc]  # doit is untyped
    """doit's own, which also knows the recipes that cannot be read.

    Attributes:
        broken: their faults, by name.
    """

    broken: Mapping[str, Sequence[str]]

    def load_tasks(self, cmd: Any, pos_args: Sequence[str]) -> list[Any]:
        """Return all tasks of the recipes that can be read; doit calls this.

        Raises:
            LoadError: what the command is about cannot be read.
        """
        tasks: list[Any] = super().load_tasks(cmd, pos_args)
        self.broken = self.namespace.get("BROKEN", {})
        meant = self._all_meant(cmd, pos_args) or self._named(pos_args)
        if meant:
            raise LoadError(fault for name in meant for fault in self.broken[name])
        if self.broken and cmd.name != "completion":
            # They are to be said again by a run that finds nothing changed.
            untouched.not_noted()
            _warn(self.broken)
        return tasks

    def _all_meant(self, cmd: Any, words: Sequence[str]) -> list[str]:
        """Return all that are broken if words mean every model, as none does, or a stage's name."""
        of_all = not words or not self._groups.isdisjoint(words)
        return list(self.broken) if of_all and cmd.name not in SURVEYS else []

    def _named(self, words: Sequence[str]) -> list[str]:
        """Return those whose task or file a word is, or would be."""
        return [name for name in self.broken if any(self._is_of(name, word) for word in words)]

    def _is_of(self, name: str, word: str) -> bool:
        tasks = [name, *(f"{group}:{name}" for group in self._groups)]
        if "*" in word:
            return bool(fnmatch.filter(tasks, word))
        return word in tasks or word.startswith(f"{paths.build() / name}/")

    @property
    def _groups(self) -> set[str]:
        return {*self.namespace.get("STAGES", ()), *pipeline.OF_MODELS}


def _warn(broken: Mapping[str, Sequence[str]]) -> None:
    """Say of each recipe that it was left out: its first fault, and how to see all."""
    head = terminal.paint("warning:", "yellow", sys.stderr)
    for name, (first, *rest) in broken.items():
        see = f"`doit info {textfile.printable(shlex.quote(name))}` shows all"
        more = f" (+{len(rest)} more; {see})" if rest else ""
        print(f"{head} left out: {first}{more}", file=sys.stderr)
