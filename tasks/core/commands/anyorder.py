"""The words of our commands: options before or behind others, --help, Ctrl-C, and our errors."""

from __future__ import annotations

import getopt
import sys
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from doit.cmdparse import CmdParse, CmdParseError
from doit.exceptions import InvalidCommand

from .. import console, paths, settings
from ..engine import pipeline
from ..errors import LoadError, nearest
from . import terminal

JSON = {
    "name": "json",
    "long": "json",
    "type": bool,
    "default": False,
    "help": "print JSON for other programs",
}


class AnyOrder:
    """Goes before doit's own class among the bases of a command."""

    def parse_execute(self: Any, words: list[str]) -> Any:
        """Run the command; doit would take an option behind the first word for a task."""
        sys.excepthook = _quietly
        if {"--help", "-h"} & set(words):
            from . import helping

            terminal.write([helping.text(self)])
            return 0
        ordered = options_first(self.cmdparser, words, self.name)
        is_json = "--json" in ordered[: ordered.index("--")]
        try:
            with console.aside(is_json):
                return super().parse_execute(ordered)  # type: ignore[misc]  # doit's, or a class's
        except CmdParseError as error:
            what = str(error).splitlines()[-1]
            raise LoadError([f"{self.name}: {what}; see `doit help {self.name}`"]) from None
        except InvalidCommand as error:
            if error.not_found is None:
                raise
            names = [task.name for task in self.task_list]
            known = [*names, *pipeline.COMMANDS] if self.name == "run" else names
            raise no_task(error.not_found, known) from None


def _quietly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End on Ctrl-C without a traceback, whatever a command waits for; for sys.excepthook."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


def no_task(word: str, names: Sequence[str]) -> LoadError:
    """Return what to say of a word that is no task, or, to who begins, of there being no recipe."""
    guess, folder = nearest(word, names), paths.expand(settings.current().recipes)
    if not guess and not any(folder.glob("[!.]*.y*ml")):
        return LoadError([f"{folder}: no recipe yet; write one by `doit new MODEL --base REPO`"])
    guess = guess or "; `doit list --all` shows all"
    return LoadError([f"'{word}' is no task{guess}"])


def options_first(parser: CmdParse, words: Sequence[str], command: str) -> list[str]:
    """Return the words of a command line with all options before all others.

    Raises:
        LoadError: an option that there is not, or one without its value.
    """
    short, long = parser.get_short(), parser.get_long()
    try:
        options, rest = getopt.gnu_getopt(words, short, long)
    except getopt.GetoptError as error:
        known = [f"--{name.rstrip('=')}" for name in long]
        guess = nearest(f"--{error.opt}", known)
        raise LoadError(
            [f"{command}: {error.msg}{guess or f'; see `doit help {command}`'}"]
        ) from None
    return [*_spelled(options, long), "--", *rest]


def _spelled(options: Sequence[tuple[str, str]], long: Sequence[str]) -> Iterator[str]:
    for name, value in options:
        if name.startswith("--"):
            yield f"{name}={value}" if f"{name[2:]}=" in long else name
        else:
            yield f"{name}{value}"
