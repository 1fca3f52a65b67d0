"""`doit help`: our commands first, and of a command's options those that mean something here."""

from __future__ import annotations

from typing import Any

from doit.cmd_help import Help as DoitHelp
from doit.cmdparse import CmdParse

from ..errors import LoadError, nearest
from . import terminal

GROUPS = {
    "Start": ("new", "catalog", "doctor"),
    "Look": ("list", "plan", "why", "info", "log", "compare", "report"),
    "Keep": ("check", "gc", "clean"),
    "Shell": ("completion", "help"),
}
BUILDS = (
    ("", "build the default model"),
    ("MODEL", "build a model: all of its local stages"),
    ("STAGE:MODEL", "build one stage, and what it needs"),
    ("ship:MODEL", "push, upload, serve: all that the recipe sends out"),
    ("unship:MODEL", "take that back"),
    ("update:MODEL", "look up anew what branches and tags stand for"),
)
# doit's, of no use where manifests say what is fresh; they say so themselves.
HIDDEN = frozenset("dumpdb forget ignore reset-dep run strace tabcompletion".split())
# doit's memory and its choice of files: here manifests say what is fresh.
POINTLESS = ("DB backend", "doit core", "task loader")


class Help(DoitHelp):  # type: ignore[misc]  # doit is untyped
    """doit's own help, in the order in which people need it."""

    doc_purpose = "show what commands there are, or how one is used"
    doc_usage = "[COMMAND | TASK]"

    def execute(self, params: Any, args: list[str]) -> int:
        """Print the help; doit calls this."""
        if len(args) == 1 and args[0] in self.cmds:
            command = self.cmds[args[0]](cmds=self._cmds, **self.init_kwargs)
            terminal.write([text(command)])
            return 0
        if len(args) == 1 and args[0] != "task":
            self._tell_task(params, args)
            return 0
        code: int = super().execute(params, args)
        return code

    def _tell_task(self, params: Any, args: list[str]) -> None:
        # Past doit's own `execute`, which takes a fault in a recipe for a question about all.
        if not super(DoitHelp, self).execute(params, args):
            known = [*self.cmds, *(task.name for task in self.task_list)]
            guess = nearest(args[0], known) or "; `doit help` shows the commands"
            raise LoadError([f"help: '{args[0]}' is neither a command nor a task{guess}"])

    def print_usage(self, cmds: Any) -> None:
        """Print all commands, a line each."""
        grouped = {name for names in GROUPS.values() for name in names}
        rest = tuple(sorted(set(cmds) - grouped - HIDDEN))
        rows = [(f"  {_program(self.bin_name)} {words}".rstrip(), said) for words, said in BUILDS]
        for head, names in {**GROUPS, "More": rest}.items():
            rows += [("", ""), (head, "")] if names else []
            rows += [(f"  {name}", cmds[name].doc_purpose) for name in names if name in cmds]
        about = "Make for models: one recipe describes one model, doit builds it."
        more = f"`{_program(self.bin_name)} help COMMAND` says more; docs/commands.md says all."
        terminal.write([about, "", *terminal.table(rows), "", more])


def text(command: Any) -> str:
    """Return how a command is used."""
    command.bin_name = _program(command.bin_name)
    options = [each for each in command.cmdparser.options if each.section not in POINTLESS]
    command._cmdparser = CmdParse(options)  # where doit keeps it, once it is made
    found: str = command.help()
    return found


def _program(name: str) -> str:
    """Return what the user called us; `python -m doit` has no name of its own."""
    return "doit" if name.startswith("-") else name
