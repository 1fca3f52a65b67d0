"""Train on this machine: in one process, or in several that torchrun starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from .. import paths
from ..engine import pools, process
from ..errors import UserError
from . import environment
from .job import Job

# The processes find each other on a port that is free when they look for one.
HERE = (
    "--nnodes=1",
    "--rdzv-backend=c10d",
    "--rdzv-endpoint=127.0.0.1:0",
    "--local-addr=127.0.0.1",
)


class Launcher(Protocol):
    """What a module of this package must offer to start a training."""

    def check(self, job: Job) -> None: ...

    def run(self, job: Job, each_line: Callable[[str], None]) -> None: ...


def check(job: Job) -> None:
    """Refuse several nodes, and what this machine's devices cannot do."""
    nodes = job.train.launch.nodes
    if nodes > 1:
        raise UserError(
            f"{job.recipe.file}: train.launch.nodes: {nodes} nodes need a launcher for several "
            "hosts; set MODELWRIGHT_LAUNCHER to torchrun or slurm"
        )
    job.check_devices()


def command(job: Job) -> list[str]:
    """Return the command line that trains here."""
    if not job.is_distributed:
        return job.words()
    return job.torchrun(f"--nproc-per-node={job.train.launch.processes}", *HERE)


def run(job: Job, each_line: Callable[[str], None]) -> None:
    """Train, once there are enough free devices."""
    with pools.devices(job.train.launch.processes) as held:
        process.run(
            command(job),
            job.log,
            environ={**environment.given(), **job.environ(), **held},
            cwd=paths.build() / job.recipe.name,
            each_line=each_line,
        )
