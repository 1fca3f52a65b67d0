"""Train on several hosts: torchrun on this one, and on the others as people start run.sh there.

Where all hosts get one command, `doit train:m`, node 0 builds and the others take part.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

from .. import console, paths, settings
from ..engine import manifest, pools, process
from ..errors import UserError
from ..web import address
from . import environment, scripts
from .job import Job

# How many seconds a node waits for node 0, which gets there at about the same time, and at the end
# for what it records.
PATIENCE = 1800.0
PAUSE = 1.0


def check(job: Job) -> None:
    """Refuse a node that is none of them, a port that is taken, and devices that cannot do it."""
    nodes, rank = job.train.launch.nodes, settings.current().node_rank
    if int(rank) >= nodes:
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
    return _line(job, scripts.run_sh(job))


def _line(job: Job, script: Path) -> list[str]:
    config, nodes = job.config.absolute(), job.train.launch.nodes
    return ["bash", str(script.absolute()), str(config), str(nodes)]


def run(job: Job, each_line: Callable[[str], None]) -> None:
    """Train on this node, together with the others."""
    line = command(job)
    if job.train.launch.nodes > 1:
        console.say(_invitation(line))
    _train(job, line, job.log, each_line)


def takes_part() -> bool:
    """Return whether node 0's build is to train, and this one to take part."""
    found = settings.current()
    return found.launcher == "torchrun" and int(found.node_rank) > 0


def take_part(job: Job, key: str) -> None:
    """Train on this node as node 0 does, from its run.sh on until it has recorded the result.

    Raises:
        UserError: node 0 does not train the same, or records nothing.
        CommandFailed: training failed.
    """
    name, found = job.recipe.name, settings.current()
    if not found.rendezvous_host:
        raise UserError(
            f"{found.where('node_rank')}: node {found.node_rank} does not know where node 0 is; "
            "set MODELWRIGHT_RENDEZVOUS_HOST to its host"
        )
    script, text = paths.launch(name) / scripts.RUN, scripts.run_text(job)
    _wait(lambda: script.exists() and script.read_text(encoding="utf-8") == text, f"start {script}")
    log = job.log.with_suffix(f".{found.node_rank}.log")
    console.say(f"   this is node {found.node_rank}, which takes part; its log is {log}")
    _train(job, _line(job, script), log, lambda line: None)
    _wait(lambda: getattr(manifest.of(name, "train"), "key", "") == key, f"record train:{name}")


def _wait(done: Callable[[], bool], doing: str) -> None:
    end = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > end:
            raise UserError(
                f"node 0 did not {doing} in {console.duration(PATIENCE)}, with the same recipe and "
                "settings; see what `doit` says there, then start it on all nodes again"
            )
        console.status(f"waiting for node 0 to {doing}")
        time.sleep(PAUSE)
    console.clear()


def _train(job: Job, line: list[str], log: Path, each_line: Callable[[str], None]) -> None:
    rank = settings.current().node_rank
    with pools.devices(job.train.launch.processes) as held:
        process.run(
            line,
            log,
            environ={**environment.given(), **held, **rendezvous(), "NODE_RANK": rank},
            cwd=paths.build() / job.recipe.name,
            each_line=each_line,
        )


def _invitation(line: list[str]) -> str:
    """Return what to start on the other nodes."""
    variables = " ".join(f"{name}={value}" for name, value in rendezvous().items())
    return (
        f"   this is node 0 of {line[-1]}; start the others, which must see the same folders, "
        f"each with its own NODE_RANK:\n   NODE_RANK=... {variables} {' '.join(line)}"
    )
