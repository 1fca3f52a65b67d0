"""Start training where the settings say: on this machine, on several hosts, or through Slurm."""

from __future__ import annotations

from collections.abc import Callable

from .. import settings
from ..errors import CommandFailed, UserError
from . import failures, local, slurm, torchrun
from .job import Job

LAUNCHERS = {"local": local, "torchrun": torchrun, "slurm": slurm}


def check(job: Job) -> None:
    """Refuse what cannot work, before minutes are spent on finding out.

    Raises:
        UserError: there is no such launcher, or it cannot start this training.
    """
    job.check()
    _launcher().check(job)
    slurm.check_nobody_trains(job)


def run(job: Job, each_line: Callable[[str], None]) -> None:
    """Train, line by line of its output; end as it ends, and end it when the build is stopped.

    Raises:
        CommandFailed: training failed; the message has its last words and what to try.
    """
    try:
        _launcher().run(job, each_line)
    except CommandFailed as error:
        raise failures.explained(error, job) from None


def _launcher() -> local.Launcher:
    found = settings.current().launcher
    if found not in LAUNCHERS:
        where = settings.current().where("launcher")
        raise UserError(f"{where}: no launcher '{found}'; say {', '.join(LAUNCHERS)}")
    return LAUNCHERS[found]
