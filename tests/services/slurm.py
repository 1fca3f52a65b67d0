"""A Slurm of the test's own: two nodes on one host, on the loopback only."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from tests.services.process import Server, free_port

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
NODES = ("n1", "n2")
# A node of its own name is on this host; credentials are short-lived, so that a job that lost a
# node starts anew soon.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock,cred_expire=5
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SlurmctldPort={port}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdSpoolDir={folder}/spool-%n
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
PlugStackConfig=/dev/null
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_min_interval=100000,sched_interval=1,batch_sched_delay=0,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=0
KillWait=2
MinJobAge=300
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=2 State=UNKNOWN\n"


@dataclass
class Slurm:
    """A running cluster.

    Attributes:
        environ: what tells Slurm's programs where it is.
    """

    folder: Path
    servers: list[Server] = field(default_factory=list)

    @property
    def environ(self) -> dict[str, str]:
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def call(self, *command: str) -> str:
        """Run one of Slurm's programs and return what it prints."""
        environ = {**os.environ, **self.environ}
        done = subprocess.run(command, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def jobs(self) -> dict[str, str]:
        """Return the states of the jobs that wait or run, by number."""
        lines = self.call("squeue", "--noheader", "--format=%i %T").splitlines()
        return dict(line.split() for line in lines)

    def take_down(self, node: str) -> None:
        """Let a node fail."""
        self.call("scontrol", "update", f"nodename={node}", "state=down", "reason=test")

    def bring_back(self, node: str) -> None:
        self.call("scontrol", "update", f"nodename={node}", "state=resume")

    def is_up(self) -> bool:
        try:
            states = self.call("sinfo", "--noheader", "--Node", "--format=%T")
        except AssertionError:
            return False
        return states.split() == ["idle"] * len(NODES)

    def stop(self) -> None:
        for server in reversed(self.servers):
            server.stop()


def start(folder: Path) -> Slurm:
    """Start a cluster with all of its data in a folder."""
    for name in ("state", *(f"spool-{node}" for node in NODES)):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o755)
    made = Slurm(folder)
    host, user = socket.gethostname().partition(".")[0], getpass.getuser()
    text = CONFIG.format(host=host, user=user, folder=folder, port=free_port())
    nodes = (NODE.format(name=name, host=host, port=free_port()) for name in NODES)
    (folder / "slurm.conf").write_text(text + "".join(nodes))
    environ = {**os.environ, **made.environ}
    config = str(folder / "slurm.conf")
    made.servers.append(_munged(folder))
    made.servers.append(
        Server(["slurmctld", "-D", "-f", config], folder / "ctld.out", _at_once, environ)
    )
    for node in NODES:
        command = ["slurmd", "-D", "-N", node, "-f", config]
        made.servers.append(Server(command, folder / f"{node}.out", _at_once, environ))
    made.servers[-1].is_up = made.is_up
    try:
        for server in made.servers:
            server.start()
    except BaseException:
        made.stop()
        raise
    return made


def _at_once() -> bool:
    return True


def _munged(folder: Path) -> Server:
    """Return the server that Slurm's programs show each other who they are by."""
    key, place = folder / "munge.key", folder / "munge.sock"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    names = {"key-file": key, "socket": place} | {
        f"{name}-file": folder / f"munge.{name}" for name in ("pid", "log", "seed")
    }
    options = [f"--{name}={path}" for name, path in names.items()]
    # It would refuse to work below /tmp, where others may write.
    return Server(
        ["munged", "--foreground", "--force", *options], folder / "munged.out", place.exists
    )
