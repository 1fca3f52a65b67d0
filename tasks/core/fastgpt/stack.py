"""The containers around FastGPT: their compose file, start, restart.

A folder that has a compose file keeps it.  One that has none gets ours, and beside it `.env` with
passwords made on the spot; nobody else may read that.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from .. import console
from ..engine import process
from ..errors import UserError
from . import client, composefile, passwords
from .client import Version

NAMES = (composefile.NAME, "docker-compose.yaml", "compose.yaml", "compose.yml")
FASTGPT = re.compile(r"(^|/)fastgpt(-pro)?:")


def find(folder: Path) -> Path | None:
    """Return the compose file of a folder, if it has one."""
    return next((folder / name for name in NAMES if (folder / name).is_file()), None)


def make(folder: Path, images: Mapping[str, str]) -> Path:
    """Put our compose file into a folder, and passwords beside it where there are none yet."""
    path, text = folder / composefile.NAME, composefile.text(images)
    passwords.fill(folder, text)
    path.write_text(text, encoding="utf-8")
    return path


def service(path: Path) -> tuple[str, Version | None]:
    """Return FastGPT's service in a compose file, and the release that its image names.

    Raises:
        UserError: the file cannot be read, or has no such service.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        services = dict(content["services"])
    except (OSError, UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError, ValueError):
        raise UserError(f"{path}: no compose file with `services:`; mend it") from None
    for name, one in services.items():
        image = str(one.get("image", "")) if isinstance(one, dict) else ""
        if FASTGPT.search(image):
            return str(name), client.parse(image)
    raise UserError(f"{path}: no service with an image of FastGPT; is it the right folder?")


def up(path: Path, log: Path) -> None:
    """Start the containers of a compose file that do not run; leave the others.

    Raises:
        UserError: there is no Docker, or it refuses.
    """
    file = path.resolve()
    command = [*program(), "-f", str(file), "up", "--detach"]
    console.say(f"   {' '.join(command)}")
    # Older releases look for .env where they are started.
    cwd, told = file.parent, console.status
    process.run(command, log, cwd=cwd, each_line=told, what_next=_next(path))


def restart(config: Path, log: Path) -> bool:
    """Restart the container that has a config.json mounted; return whether there is one.

    A file that was replaced is seen by a container only when it starts anew.
    """
    found = _mounting(config)
    for name in found:
        console.say(f"   docker restart {name}")
        process.run(["docker", "restart", name], log)
    return bool(found)


def _mounting(config: Path) -> list[str]:
    """Return the names of the running containers into which a file is mounted."""
    ids = (_docker("ps", "--quiet") or "").split()
    told = json.loads(_docker("inspect", *ids) or "[]") if ids else []
    return [str(one["Name"]).lstrip("/") for one in told if _mounts(one, config.resolve())]


def _mounts(container: dict[str, Any], config: Path) -> bool:
    sources = (mount.get("Source", "") for mount in container.get("Mounts") or [])
    return any(Path(source).resolve() == config for source in sources if source)


def program() -> list[str]:
    """Return the compose command: Docker's plug-in, else the program of its own."""
    if _docker("compose", "version") is not None:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    raise UserError(
        "no `docker compose` and no `docker-compose` here; install one, or start FastGPT by hand"
    )


def _next(path: Path) -> str:
    missing = ", ".join(passwords.needed(path.read_text(encoding="utf-8", errors="replace")))
    known = f"it needs {missing}, in {path.parent / passwords.NAME} or in the environment; " * bool(
        missing
    )
    return f"{known}`docker compose -f {path} logs` tells more"


def _docker(*words: str) -> str | None:
    """Return what the Docker client prints, or None where it cannot say."""
    try:
        done = subprocess.run(
            ["docker", *words], capture_output=True, text=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
