"""What this machine has: Python, settings, recipes, room, devices, toolchains, Slurm."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .. import console, paths, settings
from ..errors import UserError

OLDEST = (3, 10)
# What one 7B model takes on the way: base, checkpoints, merged weights, image.
ROOM = 60e9
# What a tiny model's training takes.
MEMORY = 4e9
PATIENCE = 20.0
DRIVER = "the driver does not answer: install it again, or start the machine anew"
CONTROLLER = "does slurmctld run, and does SLURM_CONF name its file?"


def python() -> str:
    """Say which Python runs us."""
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < OLDEST:
        raise UserError(
            f"{version} is too old; install Python 3.10 or later, set MODELWRIGHT_PYTHON"
        )
    return f"{version}, {sys.executable}"


def given() -> str:
    """Read the settings and say where they are from."""
    found = settings.current()
    places = {where.partition(":")[0] for where in found.sources.values()}
    files = sorted(place for place in places if not place.startswith(settings.PREFIX))
    if any(place.startswith(settings.PREFIX) for place in places):
        files.append("the environment")
    return (
        f"{len(found.sources)} from {', '.join(files)}" if found.sources else "all at their default"
    )


def recipes() -> str:
    """Load all recipes."""
    from .. import recipe

    found = recipe.load()
    return f"{len(found)}, all sound: {', '.join(one.name for one in found)}" if found else ""


def disk() -> str:
    """Write a file into the build folder, and see how much more there is room for."""
    folder = paths.build()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
        file.write(b"written")
        file.flush()
        os.fsync(file.fileno())
    free = shutil.disk_usage(folder).free
    what = f"{console.size(free)} free in {folder}; writing works"
    return what if free > ROOM else f"{what}; a 7B model takes about {console.size(ROOM)}"


def store() -> str:
    """Keep a file in the store of results, and ask for the team's."""
    from ..engine import cas, contact, room, store

    folder, limit = cas.folder(), console.size(room.limit())
    try:
        store.check()
    except OSError as error:
        where = settings.current().where("store")
        raise UserError(
            f"{where}: {folder} cannot keep results of {paths.build()} ({error.strerror}); "
            "name a folder on the same file system"
        ) from None
    team = contact.check()
    return f"results are kept in {folder}, up to {limit}{f', and in {team}' if team else ''}"


def memory() -> str:
    """See how much memory a build may take, on this machine and in this control group."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    known = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if ":" in line}
    free, whole = known["MemAvailable"], known["MemTotal"]
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = Path(place).read_text(encoding="ascii").strip() if Path(place).exists() else "max"
        if text.isdigit() and int(text) < whole:
            whole = int(text)
    cores = len(os.sched_getaffinity(0))
    if free < MEMORY:
        raise UserError(
            f"{console.size(free)} free of {console.size(whole)}; training tiny-agent takes "
            f"{console.size(MEMORY)}: end other programs"
        )
    return f"{console.size(free)} free of {console.size(whole)}, {cores} processor cores"


def gpus() -> str:
    """Ask the driver for its devices."""
    if not shutil.which("nvidia-smi"):
        return ""
    fields = "name,memory.total,memory.free,driver_version"
    told = _run("nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits", cure=DRIVER)
    rows = [[part.strip() for part in line.split(",")] for line in told.splitlines() if line]
    cards = [f"{name} ({free} of {whole} MiB free)" for name, whole, free, *_ in rows]
    return f"{', '.join(cards)}; driver {rows[0][-1]}" if rows else ""


def toolchain(name: str) -> str:
    """Run a toolchain's Python and ask it for its packages."""
    from ..toolchains import toolchain

    if not toolchain.is_made(name):
        if toolchain.given_python(name):
            raise UserError(f"not as it should be; `doit toolchain:{name}` says what it lacks")
        return ""
    code = (
        "from importlib.metadata import version as v; "
        f"print('{name}', v('{name}') + ', torch', v('torch'))"
    )
    again = f"make it again: `doit clean toolchain:{name}`, `doit toolchain:{name}`"
    return f"{_run(toolchain.python(name), '-c', code, cure=again)}; it runs"


def slurm() -> str:
    """Ask the controller for its partitions."""
    if not shutil.which("sinfo"):
        if asks_for_slurm():
            raise UserError(
                "MODELWRIGHT_LAUNCHER is slurm, and there is no sinfo; install its client"
            )
        return ""
    told = _run("sinfo", "--noheader", "--format=%P %D %T", cure=CONTROLLER)
    rows = [line.split() for line in told.splitlines() if line.strip()]
    return ", ".join(f"{name}: {count} {state}" for name, count, state in rows) or "no partitions"


def asks_for_slurm() -> bool:
    """Return whether trainings are to start through Slurm."""
    return settings.current().launcher == "slurm"


def _run(*command: str, cure: str) -> str:
    """Return what a program prints.

    Raises:
        UserError: it fails, or takes too long; ends with the cure.
    """
    name = Path(command[0]).name
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{name} says nothing for {PATIENCE:.0f} s; {cure}") from None
    if done.returncode:
        told = (done.stderr or done.stdout).strip().splitlines() or ["without a word"]
        raise UserError(f"{name} fails ({done.returncode}): {told[-1][:120]}; {cure}")
    return done.stdout.strip()
