"""Start training where the settings say: on this machine, on several hosts, or through Slurm."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import settings
from ..errors import CommandFailed
from .job import Job

if TYPE_CHECKING:
    from .local import Launcher


def check(job: Job) -> None:
    """Refuse what cannot work, before minutes are spent on finding out.

    Raises:
        UserError: the launcher cannot start this training.
    """
    from . import slurm

    job.check()
    _launcher().check(job)
    slurm.check_nobody_trains(job)


def run(job: Job, each_line: Callable[[str], None]) -> None:
    """Train, line by line of its output; end as it ends, and end it when the build is stopped.

    Raises:
        CommandFailed: training failed; the message has its last words and what to try.
    """
    from . import failures

    try:
        _launcher().run(job, each_line)
    except CommandFailed as error:
        raise failures.explained(error, job) from None


def _launcher() -> Launcher:
    from . import local, slurm, torchrun

    launchers: dict[str, Launcher] = {"local": local, "torchrun": torchrun, "slurm": slurm}
    return launchers[settings.current().launcher]
