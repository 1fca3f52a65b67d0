"""`doit log TASK`: what a stage's last run said."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from doit.cmd_base import Command

from .. import paths
from ..engine import ledger
from ..errors import LoadError, nearest
from . import terminal
from .anyorder import JSON, AnyOrder


class Log(AnyOrder, Command):  # type: ignore[misc]  # doit is untyped
    """`doit log TASK`: print a log.  No recipe is read, so that it works when one is broken."""

    doc_purpose = "show what a stage's last run said"
    doc_usage = "STAGE:MODEL | MODEL"
    doc_description = (
        "The order does not matter: train:tiny-agent and tiny-agent:train are the same.  "
        "Of a model, the log that was written last is shown.  Only stages that run a foreign "
        "tool, or that failed by a fault of ours, leave a log."
    )
    cmd_options = (
        {
            "name": "lines",
            "short": "n",
            "long": "lines",
            "type": int,
            "default": 0,
            "help": "show only the last so many lines",
        },
        {
            "name": "follow",
            "short": "f",
            "long": "follow",
            "type": bool,
            "default": False,
            "help": "go on showing what is written, until Ctrl-C",
        },
        {
            "name": "path",
            "short": "p",
            "long": "path",
            "type": bool,
            "default": False,
            "help": "print where the log is, not what is in it",
        },
        JSON,
    )

    def execute(self, opt_values: dict[str, Any], pos_args: list[str]) -> int:
        """Print the log; doit calls this."""
        if len(pos_args) != 1:
            raise LoadError(["`doit log`: which task? Give one, such as train:tiny-agent"])
        log, lines = find(pos_args[0]), opt_values["lines"]
        if lines < 0:
            raise LoadError([f"doit log --lines {lines}: say how many lines, 1 or more"])
        if opt_values["path"]:
            terminal.write([str(log)])
        elif opt_values["json"]:
            terminal.write_json(told(log, lines))
        elif opt_values["follow"]:
            sys.stdout.flush()
            start = str(lines) if lines else "+1"
            os.execvp("tail", ["tail", "-n", start, "-F", str(log)])  # noqa: S606  # no shell
        else:
            terminal.write(tail(log, lines))
        return 0


def find(task: str) -> Path:
    """Return the log of a task, or the newest one of a model.

    Raises:
        LoadError: there is none; it says which there are.
    """
    first, colon, second = task.partition(":")
    found = {(path.parts[-3], path.stem): path for path in paths.build().glob("*/logs/*.log")}
    if not colon:
        own = [path for (model, _), path in found.items() if model == first]
        if own:
            return max(own, key=lambda path: path.stat().st_mtime)
    for name in ((second, first), (first, second)):
        if name in found:
            return found[name]
    names = sorted(f"{stage}:{model}" for model, stage in found)
    there = f"; there are {', '.join(names)}" if names else "; nothing that leaves one has run"
    raise LoadError([f"{paths.build()}: no log of {task}{nearest(task, names) or there}"])


def tail(log: Path, lines: int) -> list[str]:
    """Return a log's last lines, all if `lines` is 0."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise LoadError([f"{log}: {error.strerror}; make it readable for you"]) from None
    return text.splitlines()[-lines:]


def told(log: Path, lines: int) -> dict[str, Any]:
    """Return the log, and what the ledger has of the stage's last run that ended well."""
    model, stage = log.parts[-3], log.stem
    runs = [r for r in ledger.lines() if r.get("model") == model and r.get("stage") == stage]
    return {
        "task": f"{stage}:{model}",
        "path": str(log),
        "last": runs[-1] if runs else None,
        "lines": tail(log, lines),
    }
