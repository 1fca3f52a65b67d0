"""`doit run`, which `doit` without a command is: doit's own, but for how it refuses words."""

from __future__ import annotations

from doit.cmd_run import Run as DoitRun

from .anyorder import AnyOrder


class Run(AnyOrder, DoitRun):  # type: ignore[misc]  # doit is untyped
    """Options may stand behind the tasks, and a task that there is not gets a guess."""

    doc_purpose = "build tasks; what `doit` does without a command"
