"""Devices shared by stages that run side by side, here and in other builds: each has its own.

A device is a lock file in build/.pools/, so the kernel gives a dead build's devices back.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator

from .. import console, paths, settings
from ..errors import UserError
from ..toolchains import torchbuild
from . import lock

# How the makers of devices call it.
VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ASCEND_RT_VISIBLE_DEVICES")


@contextlib.contextmanager
def devices(count: int) -> Iterator[dict[str, str]]:
    """Hold some GPUs; yield the environment that shows a program these and no others.

    Without GPUs there is nothing to share, and nothing to wait for.

    Raises:
        UserError: more are asked for than there are.
    """
    there = names() if count else []
    if not there:
        yield {}
        return
    if count > len(there):
        raise UserError(
            f"train.launch.processes: {count} processes, but there are {len(there)} devices; "
            f"lower it, or correct {settings.current().where('pools_gpu')}"
        )
    with contextlib.ExitStack() as stack:
        held = _wait_for(there, count, stack)
        yield {variable(): ",".join(held)}


def variable() -> str:
    """Return the variable that shows a program its devices, by their maker."""
    given = settings.current().pools_variable
    return given or next((name for name in VARIABLES if name in os.environ), VARIABLES[0])


def names() -> list[str]:
    """Return the devices: as many as the settings say, else those that this build may see."""
    given = settings.current().pools_gpu
    visible = os.environ.get(variable())
    if visible is not None:
        return [name for name in visible.split(",") if name][: int(given) if given else None]
    if given:
        return list(map(str, range(int(given))))
    return _ask_driver() if torchbuild.has_gpu() else []


def _ask_driver() -> list[str]:
    told = subprocess.run(
        ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True
    )
    return told.stdout.split() if told.returncode == 0 else []


def _wait_for(there: list[str], count: int, stack: contextlib.ExitStack) -> list[str]:
    """Take the first devices that are free; all or none, so that nobody waits for a half."""
    said = False
    while True:
        with contextlib.ExitStack() as taken:
            free: list[str] = []
            for name in there:
                device = lock.alone(paths.build() / ".pools" / f"gpu-{name}")
                if len(free) < count and taken.enter_context(device):
                    free.append(name)
            if len(free) == count:
                stack.push(taken.pop_all().__exit__)
                return free
        if not said:
            console.say(f"   waiting for {count} of {len(there)} devices")
            said = True
        time.sleep(0.2)
