"""`doit run`, which `doit` without a command is: doit's own, but for what it refuses."""

from __future__ import annotations

import functools
import os
from typing import Any

from doit.cmd_run import Run as DoitRun
from doit.cmd_run import opt_parallel_type, opt_verbosity

from ..errors import LoadError
from . import missing
from .anyorder import AnyOrder
from .selection import named

# doit's own default is 1; pyproject.toml sets ours.
VERBOSITY = {**opt_verbosity, "help": opt_verbosity["help"].replace("default: 1", "default: 2")}
FORCE = {
    "name": "force",
    "long": "force",
    "type": bool,
    "default": False,
    "help": "start a training that does not fit by our estimate",
}
# Processes would share nothing of what tasks tell each other: dodo.py has threads, no choice.
OPTIONS = tuple(
    VERBOSITY if each is opt_verbosity else each
    for each in DoitRun.cmd_options
    if each is not opt_parallel_type
)


class Run(AnyOrder, DoitRun):  # type: ignore[misc]  # doit is untyped
    """Options may stand behind the tasks, and a task that there is not gets a guess.

    A file that is not there is told before anything runs, unless people want to go on without.
    """

    doc_purpose = "build tasks; what `doit` does without a command"
    cmd_options = (*OPTIONS, FORCE)

    def execute(self, params: Any, args: Any) -> Any:
        """Run; `--force` is a setting said on the command line."""
        if params["force"]:
            os.environ["MODELWRIGHT_FORCE"] = "1"
        return super().execute(params, args)

    @functools.wraps(DoitRun._execute)  # doit goes by the names of its arguments
    def _execute(self, **options: Any) -> int:
        if not (options["continue_"] or options["single"]):
            found = missing.faults(named(self.task_list, self.sel_tasks))
            if found:
                raise LoadError(found)
        # doit says 2 where a task could not begin after one that failed; for us both are 1.
        return int(super()._execute(**options) > 0)
