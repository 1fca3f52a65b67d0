"""A Docker engine of the test's own, without a network; it runs as root only."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.services.process import Server


@dataclass
class Engine:
    """A Docker engine.

    Attributes:
        host: the value of DOCKER_HOST.
    """

    host: str
    folder: Path
    server: Server

    def docker(self, *arguments: str, text: bytes | None = None) -> str:
        """Run the docker client and return what it prints."""
        done = subprocess.run(
            ["docker", *arguments],
            input=text,
            capture_output=True,
            env={**os.environ, "DOCKER_HOST": self.host},
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"docker {' '.join(arguments)}: {done.stderr.decode()}")
        return done.stdout.decode()

    def stop(self) -> None:
        self.server.stop()
        subprocess.run(["umount", str(self.folder / "exec/netns/default")], capture_output=True)
        subprocess.run(["umount", str(self.folder / "data")], capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)


def start(folder: Path) -> Engine:
    """Start an engine with all of its data in a folder."""
    folder.mkdir(parents=True)
    socket = folder / "docker.sock"
    command = [
        "dockerd", "-H", f"unix://{socket}", "--data-root", str(folder / "data"),
        "--exec-root", str(folder / "exec"), "--pidfile", str(folder / "docker.pid"),
        "--storage-driver", "overlay2", "--iptables=false", "--ip6tables=false",
        "--ip-masq=false", "--bridge=none", "--exec-opt", "native.cgroupdriver=cgroupfs",
    ]  # fmt: skip
    server = Server(command, folder / "log", lambda: _answers(socket))
    server.start()
    return Engine(f"unix://{socket}", folder, server)


def _answers(socket: Path) -> bool:
    ping = ["curl", "-sf", "--unix-socket", str(socket), "http://docker/_ping"]
    return subprocess.run(ping, capture_output=True, check=False).returncode == 0
