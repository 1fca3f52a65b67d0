"""doit's commands that edit its memory: here it is empty, and they say what does the job."""

from __future__ import annotations

from typing import Any

from doit.cmd_base import Command

from ..errors import LoadError


class _Pointless(Command):  # type: ignore[misc]  # doit is untyped
    """A command that would change nothing."""

    doc_purpose = "of no use here: manifests say what is fresh"
    doc_usage = "[TASK ...]"

    def execute(self, params: Any, args: Any) -> int:
        """Say what to do instead; doit calls this."""
        task = " ".join(args) or "TASK"
        instead = f"`doit -a {task}` makes it anew, `doit clean {task}` removes its result"
        raise LoadError([f"doit {self.name}: manifests say what is fresh; {instead}"])


class Forget(_Pointless):
    """`doit forget`."""


class Ignore(_Pointless):
    """`doit ignore`."""


class ResetDep(_Pointless):
    """`doit reset-dep`."""

    name = "reset-dep"


class DumpDb(_Pointless):
    """`doit dumpdb`."""
