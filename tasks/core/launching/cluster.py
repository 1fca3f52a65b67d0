"""What Slurm is asked and told: submit, ask for a job's state, cancel."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .. import settings
from ..errors import UserError
from . import environment

# Slurm's states of a job that has come to its end, and what to do about them.
ENDED: Mapping[str, str] = {
    "COMPLETED": "",
    "FAILED": "",
    "CANCELLED": "somebody cancelled it; run doit again to go on from its newest checkpoint",
    "TIMEOUT": "its time was up; run doit again to go on from its newest checkpoint, or give it "
    "more in MODELWRIGHT_SLURM_OPTIONS: --time=2-0",
    "NODE_FAIL": "a node went down; run doit again to go on from its newest checkpoint, on nodes "
    "that are up",
    "OUT_OF_MEMORY": "a node's memory ran out; ask for more in MODELWRIGHT_SLURM_OPTIONS: --mem=0 "
    "takes all of a node",
    "PREEMPTED": "a job that matters more took its nodes; run doit again to go on",
    "BOOT_FAIL": "a node did not start; run doit again",
    "DEADLINE": "its deadline passed; run doit again",
    "REVOKED": "another cluster took it",
    "UNKNOWN": "Slurm remembers it no more; run doit again to go on from its newest checkpoint",
}
# Why a job waits that will never have its turn.
HOPELESS = (
    *("PartitionConfig", "PartitionNodeLimit", "PartitionTimeLimit", "BadConstraints"),
    *("AccountNotAllowed", "QOSNotAllowed", "InvalidAccount", "InvalidQOS"),
)


@dataclass(frozen=True)
class State:
    """A job's state, as squeue names it.

    Attributes:
        reason: why it waits.
        nodes: where it runs.
    """

    name: str
    reason: str = ""
    nodes: str = ""

    @property
    def has_ended(self) -> bool:
        return self.name in ENDED

    @property
    def waits(self) -> bool:
        return self.name in ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")

    @property
    def is_hopeless(self) -> bool:
        return self.waits and self.reason in HOPELESS

    @property
    def on(self) -> str:
        return f" on {self.nodes}" if self.nodes else ""

    @property
    def cure(self) -> str:
        return ENDED.get(self.name, "")


def submit(script: Path) -> str:
    """Submit a script and return the job's number.

    Raises:
        UserError: Slurm refuses it.
    """
    done = _call("sbatch", "--parsable", str(script.absolute()))
    if done.returncode:
        raise UserError(refusal(done.stderr, script))
    return done.stdout.strip().partition(";")[0]


def ask(number: str, before: State | None = None) -> State:
    """Return a job's state; that of before where Slurm cannot be asked just now."""
    for command in (
        ("squeue", "--noheader", "--states=all", f"--jobs={number}", "--format=%T|%r|%N"),
        ("sacct", "--noheader", "--allocations", "--parsable2", f"--jobs={number}",
         "--format=State,Reason,NodeList"),
    ):  # fmt: skip
        done = _call(*command)
        if "Unable to contact" in done.stderr or "Socket timed out" in done.stderr:
            return before or State("PENDING", "Slurm's controller does not answer")
        found = done.stdout.strip().splitlines()
        if done.returncode == 0 and found:
            name, reason, nodes = (*found[-1].split("|"), "", "")[:3]
            return State(name.split()[0], reason.strip("() "), nodes.replace("None assigned", ""))
    return State("UNKNOWN")


def named(name: str) -> str:
    """Return our job of a name that waits or runs, or nothing."""
    done = _call("squeue", "--noheader", "--me", f"--name={name}", "--format=%i")
    return next(iter(done.stdout.split()), "")


def cancel(number: str, seconds: float = 60) -> None:
    """Cancel a job and wait until it writes no more."""
    _call("scancel", number)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        state = ask(number)
        if state.has_ended:
            return
        time.sleep(0.5)


def refusal(said: str, script: Path) -> str:
    """Return what sbatch refused, and what to do about it."""
    text = re.sub(r"^(sbatch: )?error: ", "", said.strip(), flags=re.MULTILINE).replace("\n", "; ")
    cure = next((cure for pattern, cure in _cures() if re.search(pattern, text)), None)
    return f"Slurm refuses the job: {text}\n{cure or f'the script is {script}'}"


def _cures() -> Iterator[tuple[str, str]]:
    """Yield what sbatch may say, and what to do about it."""
    found = settings.current()
    yield "invalid partition", _partitions(found.where("slurm_partition"))
    yield "[Ii]nvalid account", f"correct {found.where('slurm_account')}"
    devices = "say what the cluster calls its devices (`sinfo -o %G` tells), or none"
    yield "generic resource", f"{found.where('slurm_gres')}: {devices}"
    yield "[Uu]nable to contact|timed out", "is slurmctld up?  `scontrol ping` tells"
    smaller = "lower train.launch.processes or nodes, or take another partition"
    yield "configuration is not available|More processors|Node count", f"too large; {smaller}"
    yield "[Ii]nvalid .*option|unrecognized option", f"correct {found.where('slurm_options')}"


def _partitions(where: str) -> str:
    there = " ".join(_call("sinfo", "--noheader", "--format=%R").stdout.split())
    return f"{where}: there is {there}" if there else f"correct {where}"


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of Slurm's programs; it sees no secret of ours."""
    with contextlib.suppress(subprocess.TimeoutExpired, FileNotFoundError):
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, env=environment.passed()
        )
    return subprocess.CompletedProcess(command, 1, "", f"Unable to contact Slurm: {command[0]}")
