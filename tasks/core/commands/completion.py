"""`doit completion SHELL`: the script that lets a shell complete commands, tasks and options.

The scripts know nothing: on each Tab they hand the line to `doit completion --line`, which prints
what may come next, a word and a tab and what it means, one a line.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from doit.cmd_base import Command
from doit.cmdparse import CmdOption

from .. import catalog, console, paths
from ..compare import sides
from ..engine import ledger
from ..errors import LoadError
from . import terminal
from .anyorder import AnyOrder

SHELLS = ("bash", "zsh", "fish")
SCRIPTS = paths.ROOT / paths.CORE / "commands" / "completions"
# What comes after a command; `tasks` where it is none of these.
AFTER = {
    "catalog": "architectures",
    "compare": "models",
    "completion": "shells",
    "doctor": "nothing",
    "gc": "nothing",
    "help": "commands",
    "log": "logs",
    "new": "nothing",
}
Found = Iterator[tuple[str, str]]


class Completion(AnyOrder, Command):  # type: ignore[misc]  # doit is untyped
    """`doit completion SHELL`: print the script; `--line` is for the script."""

    doc_purpose = "print a script that completes words in bash, zsh or fish"
    doc_usage = "[bash | zsh | fish]"
    doc_description = (
        "Put one line into your shell's start file.  "
        'bash and zsh: eval "$(./doitw completion bash)".  '
        "fish: ./doitw completion fish | source.  Without a name, the shell is that of $SHELL."
    )
    cmd_options = (
        {
            "name": "line",
            "long": "line",
            "type": str,
            "default": "",
            "help": "print what may come next on this line; the scripts ask so",
        },
    )

    def __init__(self, task_loader: Any = None, cmds: Any = None, **others: Any) -> None:
        super().__init__(**others)
        self.loader, self.commands = task_loader, cmds

    def execute(self, opt_values: dict[str, Any], pos_args: list[str]) -> int:
        """Print the script or the words; doit calls this."""
        if opt_values["line"]:
            words = opt_values["line"].split()[1:] or [""]
            words += [""] * (opt_values["line"][-1].isspace() and words != [""])
            terminal.write("\t".join(each) for each in self._next(words[:-1], words[-1]))
        else:
            terminal.write([script(pos_args).read_text(encoding="utf-8").rstrip("\n")])
        return 0

    def _next(self, before: Sequence[str], typed: str) -> Found:
        """Yield what may stand at the end of a line, by what stands before it."""
        name = before[0] if before and before[0] in self.commands else ""
        if typed.startswith("-"):
            found = self._options(name or "run")
        elif not before:
            found = iter([*self._commands(), *self._tasks()])
        elif name == "compare" and len(before) > 1:
            found = self._keys(before[1])
        else:
            kind = AFTER.get(name, "tasks")
            found = getattr(self, f"_{kind}")() if kind != "nothing" else iter(())
        taken = set(before)
        return (each for each in found if each[0].startswith(typed) and each[0] not in taken)

    def _commands(self) -> Found:
        for name in sorted(self.commands):
            yield name, self.commands.get_plugin(name).doc_purpose

    def _options(self, name: str) -> Found:
        command = self.commands.get_plugin(name)
        for option in map(CmdOption, command.cmd_options):
            if option.long:
                yield f"--{option.long}", " ".join(option.help.split()).partition("[")[0].strip()

    def _tasks(self) -> Found:
        """Yield tasks; none while a setting is wrong, which the next command will say."""
        try:
            self.loader.setup({"dodoFile": "dodo.py", "cwdPath": None, "seek_file": False})
            self.loader.load_doit_config()
            for task in self.loader.load_tasks(self, []):
                yield task.name, task.doc or ""
            for name in self.loader.broken:
                yield name, "a recipe that cannot be read"
        except LoadError:
            return

    def _models(self) -> Found:
        for model in sorted({str(run.get("model")) for run in ledger.lines()}):
            yield model, "a model that was built"

    def _keys(self, model: str) -> Found:
        yield sides.NOW, "what the build folder has"
        for receipt in sides.results(model):
            yield paths.short(receipt.key), f"{receipt.stage}: {console.summary(receipt)}"

    def _logs(self) -> Found:
        for log in sorted(paths.build().glob("*/logs/*.log")):
            yield f"{log.stem}:{log.parts[-3]}", str(log)

    def _architectures(self) -> Found:
        for row in catalog.rows():
            yield row.architecture, ", ".join(row.models)

    def _shells(self) -> Found:
        return ((shell, "") for shell in SHELLS)


def script(words: Sequence[str]) -> Path:
    """Return the script of the shell that is named, or of the one that runs."""
    name = words[0] if words else Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS or len(words) > 1:
        given = " ".join(words) or name or "none"
        raise LoadError([f"`doit completion`: no shell '{given}' here; say {', '.join(SHELLS)}"])
    return SCRIPTS / f"doit.{name}"
