"""Train through Slurm: submitted, followed, cancelled with the build, picked up again after it.

A job's number is kept in the training's scratch folder.  A build that dies leaves its job running;
the next one follows it from its first line.  Only a build that is stopped cancels it.
"""

from __future__ import annotations

import contextlib
import shlex
import shutil
import signal
from collections.abc import Callable

from .. import console, settings
from ..engine import process, publish
from ..errors import UserError
from . import cluster, follower, scripts
from .follower import Follower, Hopeless
from .job import Job

NOTE = publish.JOB


def check(job: Job) -> None:
    """Refuse where there is no Slurm."""
    if not shutil.which("sbatch"):
        where = settings.current().where("launcher")
        raise UserError(
            f"{where}: slurm, but there is no sbatch on PATH; build on a login node, load the "
            "cluster's module, or say local"
        )


def check_nobody_trains(job: Job) -> None:
    """Refuse to train here what a job of Slurm's is training."""
    number = _noted(job)
    if settings.current().launcher == "slurm" or not number or not shutil.which("squeue"):
        return
    if not cluster.ask(number).has_ended:
        raise UserError(
            f"Slurm's job {number} trains this already; set MODELWRIGHT_LAUNCHER=slurm to follow "
            f"it, or end it with `scancel {number}`"
        )


def run(job: Job, each_line: Callable[[str], None]) -> None:
    """Train by a job: the one that is there already, or a new one."""
    with process.unwound_by(signal.SIGTERM):
        number = _running(job) or _submit(job)
        try:
            Follower(job, number, each_line).follow()
        except (KeyboardInterrupt, SystemExit, Hopeless):
            cluster.cancel(number)
            _forget(job)
            console.say(f"   job {number} cancelled")
            raise
    _forget(job)


def _running(job: Job) -> str:
    """Return the job that trains this already or came to its end meanwhile, or nothing."""
    number = _noted(job) or cluster.named(_name(job))
    if not number:
        return ""
    state = cluster.ask(number)
    if state.has_ended and not follower.went_well(job, state):
        console.say(f"   job {number} is {state.name}; a new one goes on from its checkpoints")
        _forget(job)
        return ""
    console.say(f"   following job {number}, which an earlier build submitted")
    return number


def _submit(job: Job) -> str:
    """Submit the job and note its number."""
    follower.status(job).unlink(missing_ok=True)
    script = scripts.slurm_sh(
        job,
        name=_name(job),
        processors=_processors(job),
        log=shlex.quote(str(follower.log(job, "%j"))),
        status=shlex.quote(str(follower.status(job))),
        options=options(job),
    )
    number = cluster.submit(script)
    (job.folder / NOTE).write_text(number, encoding="utf-8")
    console.say(f"   job {number} submitted; stopping the build cancels it")
    return number


def options(job: Job) -> list[str]:
    """Return what the settings say to sbatch; the last ones win."""
    found = settings.current()
    lines = []
    if found.slurm_gres != "none":
        lines.append(f"--gres={found.slurm_gres}:{job.train.launch.processes}")
    for name in ("partition", "account"):
        value = getattr(found, f"slurm_{name}")
        if value:
            lines.append(f"--{name}={value}")
    try:
        words = shlex.split(found.slurm_options)
    except ValueError as error:
        where = found.where("slurm_options")
        raise UserError(f"{where}: {error}; quote it as in a shell") from None
    return [*lines, *map(shlex.quote, words)]


def _processors(job: Job) -> int:
    """Return how many processors a node's processes and those that load their data want."""
    train = job.train
    return train.launch.processes * max(train.launch.threads or 1, 1 + train.dataloader_num_workers)


def _name(job: Job) -> str:
    """Return the job's name, which tells the training: the scratch folder's name has its key."""
    return f"{job.recipe.name}{job.folder.name}"


def _noted(job: Job) -> str:
    with contextlib.suppress(OSError):
        return (job.folder / NOTE).read_text(encoding="utf-8")
    return ""


def _forget(job: Job) -> None:
    (job.folder / NOTE).unlink(missing_ok=True)
