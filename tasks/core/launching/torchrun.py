"""Train on several hosts: torchrun on this one, and on the others as people start run.sh there."""

from __future__ import annotations

import socket
from collections.abc import Callable

from .. import console, paths, settings
from ..engine import pools, process
from ..errors import UserError
from ..web import address
from . import environment, scripts
from .job import Job


def check(job: Job) -> None:
    """Refuse a node that is none of them, a port that is taken, and devices that cannot do it."""
    nodes, rank = job.train.launch.nodes, settings.current().node_rank
    if not rank.isdecimal() or int(rank) >= nodes:
        where = settings.current().where("node_rank")
        raise UserError(f"{where}: '{rank}' is no number of a node; say 0 to {nodes - 1}")
    if int(rank) == 0:
        _check_port(int(rendezvous()["MASTER_PORT"]))
    job.check_devices()


def _check_port(port: int) -> None:
    if why := address.taken("", port):
        raise UserError(
            f"port {port}, where the nodes are to meet, cannot be had here ({why}); set "
            "MODELWRIGHT_RENDEZVOUS_PORT to a free one"
        )


def rendezvous() -> dict[str, str]:
    """Return where the nodes meet, in torchrun's variables."""
    host = settings.current().rendezvous_host or socket.getfqdn()
    return {"MASTER_ADDR": host, "MASTER_PORT": scripts.port() or str(scripts.PORT)}


def command(job: Job) -> list[str]:
    """Return the command line for any of the nodes, as the document has it."""
    script, config = scripts.run_sh(job).absolute(), job.config.absolute()
    return ["bash", str(script), str(config), str(job.train.launch.nodes)]


def run(job: Job, each_line: Callable[[str], None]) -> None:
    """Train on this node, together with the others."""
    rank = settings.current().node_rank
    line = command(job)
    if job.train.launch.nodes > 1:
        console.say(_invitation(line, rank))
    with pools.devices(job.train.launch.processes) as held:
        process.run(
            line,
            job.log,
            environ={**environment.given(), **held, **rendezvous(), "NODE_RANK": rank},
            cwd=paths.build() / job.recipe.name,
            each_line=each_line,
        )


def _invitation(line: list[str], rank: str) -> str:
    """Return what to start on the other nodes."""
    variables = " ".join(f"{name}={value}" for name, value in rendezvous().items())
    return (
        f"   this is node {rank} of {line[-1]}; start the others, which must see the same folders, "
        f"each with its own NODE_RANK:\n   NODE_RANK=... {variables} {' '.join(line)}"
    )
