"""Train through Slurm: submitted, followed, cancelled with the build, picked up again after it.

A job's number is kept in the training's scratch folder.  A build that dies leaves its job running;
the next one follows it from its first line.  Only a build that is stopped cancels it.
"""

from __future__ import annotations

import contextlib
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .. import console, paths, process, settings
from ..errors import CommandFailed, UserError
from . import cluster, scripts
from .cluster import State
from .job import Job, is_there

NOTE = "slurm-job"
# How often new lines of the log are read, and how often Slurm is asked, in seconds.
LOOK, ASK = 0.3, 4.0


def check(job: Job) -> None:
    """Refuse where there is no Slurm."""
    if not is_there("sbatch"):
        where = settings.current().where("launcher")
        raise UserError(
            f"{where}: slurm, but there is no sbatch on PATH; build on a login node, load the "
            "cluster's module, or say local"
        )


def check_nobody_trains(job: Job) -> None:
    """Refuse to train here what a job of Slurm's is training."""
    number = _noted(job)
    if settings.current().launcher == "slurm" or not number or not is_there("squeue"):
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
        follower = Follower(job, number, each_line)
        try:
            follower.follow()
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
    if state.has_ended and not _status(job).is_well:
        console.say(f"   job {number} is {state.name}; a new one goes on from its checkpoints")
        _forget(job)
        return ""
    console.say(f"   following job {number}, which an earlier build submitted")
    return number


def _submit(job: Job) -> str:
    """Submit the job and note its number."""
    _status(job).path.unlink(missing_ok=True)
    script = scripts.slurm_sh(
        job,
        name=_name(job),
        processors=_processors(job),
        log=shlex.quote(str(_log(job, "%j"))),
        status=shlex.quote(str(_status(job).path)),
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


def _log(job: Job, number: str) -> Path:
    return (job.folder / f"slurm-{number}.log").absolute()


@dataclass(frozen=True)
class Status:
    """The exit status that the job's script leaves behind as its last act."""

    path: Path

    def read(self) -> int | None:
        try:
            return int(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    @property
    def is_well(self) -> bool:
        return self.read() == 0


def _status(job: Job) -> Status:
    return Status((job.folder / "slurm-status").absolute())


class Hopeless(UserError):
    """The cluster will never run the job."""


class Follower:
    """Reads a job's log while it is written, until the job has ended."""

    def __init__(self, job: Job, number: str, each_line: Callable[[str], None]) -> None:
        self.job, self.number, self.each_line = job, number, each_line
        self.state = State("PENDING")
        self.read = 0

    def follow(self) -> None:
        """Follow the job to its end.

        Raises:
            CommandFailed: it did not end well.
        """
        self.job.log.parent.mkdir(parents=True, exist_ok=True)
        self.job.log.write_bytes(b"")
        for state in self._states():
            self._tell(state)
            self._copy()
        if not _status(self.job).is_well:
            raise self._failure()

    def _states(self) -> Iterator[State]:
        """Yield the job's state now and then, until it has ended."""
        asked = 0.0
        state = self.state
        while True:
            ended = _status(self.job).read()
            if ended is not None or time.monotonic() - asked > ASK:
                state, asked = cluster.ask(self.number, state), time.monotonic()
            if ended and state.waits:  # Slurm starts it anew
                _status(self.job).path.unlink(missing_ok=True)
            if ended == 0 or state.has_ended:
                # The last lines may be under way when the status is there.
                time.sleep(LOOK)
                yield state
                return
            yield state
            if not threading.main_thread().is_alive():
                raise KeyboardInterrupt
            time.sleep(LOOK)

    def _tell(self, state: State) -> None:
        """Say what changed, and while the job waits, why.

        Raises:
            Hopeless: it waits for what there is not.
        """
        if state.is_hopeless:
            raise Hopeless(
                f"Slurm's job {self.number} would wait for ever ({state.reason}): lower "
                "train.launch.processes or nodes, or say in MODELWRIGHT_SLURM_OPTIONS what the "
                "partition allows, such as --cpus-per-task=4 or --time=1-0"
            )
        if state.waits:
            console.status(f"job {self.number} waits: {state.reason or 'for its turn'}")
        if state.name != self.state.name and not state.has_ended:
            nodes = f" on {state.nodes}" if state.nodes else ""
            console.clear()
            console.say(f"   job {self.number} is {state.name}{nodes}")
        self.state = state

    def _copy(self) -> None:
        """Pass on the whole lines that are new."""
        try:
            with _log(self.job, self.number).open("rb") as file:
                file.seek(self.read)
                new = file.read()
        except FileNotFoundError:
            return
        whole = new[: new.rfind(b"\n") + 1]
        self.read += len(whole)
        with self.job.log.open("ab") as log:
            log.write(whole)
        for line in whole.decode("utf-8", "replace").splitlines():
            self.each_line(line)

    def _failure(self) -> CommandFailed:
        code = _status(self.job).read()
        how = f" ({code})" if code else ""
        script = paths.launch(self.job.recipe.name) / "train.slurm.sh"
        lines = [
            f"Slurm's job {self.number} ended as {self.state.name}{how}{self.state.on}",
            f"  command: sbatch {script}",
            f"  log: {self.job.log}",
        ]
        tail = self.job.log.read_text(encoding="utf-8", errors="replace").splitlines()[-12:]
        lines += [f"  | {line}" for line in tail if line.strip()]
        if self.state.cure:
            lines.append(self.state.cure)
        return CommandFailed("\n".join(lines), code or 1, tail)
