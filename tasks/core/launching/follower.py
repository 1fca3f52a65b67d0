"""Follow a job of Slurm's: its lines as they are written, its state, and how it ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .. import console, paths
from ..errors import CommandFailed, UserError
from . import cluster
from .cluster import State
from .job import Job

# How often new lines of the log are read, and how often Slurm is asked, in seconds: while the job
# runs, and when its script has come to its end.
LOOK, ASK, SOON = 0.3, 4.0, 0.5


def log(job: Job, number: str) -> Path:
    """Return the file that Slurm writes a job's output to."""
    return (job.folder / f"slurm-{number}.log").absolute()


def status(job: Job) -> Path:
    """Return the file in which the job's script leaves its exit status, as its last act."""
    return (job.folder / "slurm-status").absolute()


def code(job: Job) -> int | None:
    """Return the exit status that the job's script left, if it came so far."""
    try:
        return int(status(job).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def went_well(job: Job, state: State) -> bool:
    """Return whether a job ended well; its script tells where Slurm remembers it no more."""
    return state.name == "COMPLETED" or (state.name == "UNKNOWN" and code(job) == 0)


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
        if not went_well(self.job, self.state):
            raise self._failure()

    def _states(self) -> Iterator[State]:
        """Yield the job's state now and then, until it has ended."""
        state, asked = self.state, 0.0
        while True:
            ended = code(self.job) is not None
            if time.monotonic() - asked > (SOON if ended else ASK):
                state, asked = cluster.ask(self.number, state), time.monotonic()
                if ended and state.waits:  # Slurm starts it anew
                    status(self.job).unlink(missing_ok=True)
            if state.has_ended:
                # The last lines may still be under way.
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
            console.clear()
            console.say(f"   job {self.number} is {state.name}{state.on}")
        self.state = state

    def _copy(self) -> None:
        """Pass on the whole lines that are new."""
        try:
            with log(self.job, self.number).open("rb") as file:
                file.seek(self.read)
                new = file.read()
        except FileNotFoundError:
            return
        whole = new[: new.rfind(b"\n") + 1]
        self.read += len(whole)
        with self.job.log.open("ab") as file:
            file.write(whole)
        for line in whole.decode("utf-8", "replace").split("\n")[:-1]:
            self.each_line(line)

    def _failure(self) -> CommandFailed:
        left = code(self.job)
        how = f" ({left})" if left else ""
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
        return CommandFailed("\n".join(lines), left or 1, tail)
