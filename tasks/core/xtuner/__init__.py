"""The xtuner toolchain: its lock, the programs that run inside it, and how they are started."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .. import paths
from ..engine import pools, process
from ..recipe import Recipe
from ..toolchains import toolchain

# Equal runs need equal hashing; nothing is fetched behind our back; output comes line by line.
ENVIRON = {
    "PYTHONHASHSEED": "0",
    "PYTHONUNBUFFERED": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

# Our programs end with this status when the user's data is at fault; they print what is wrong.
DATA_FAULT = 65


def program(name: str, *arguments: object) -> list[str]:
    """Return the command line of one of our programs that run in the toolchain.

    Paths are made absolute, as the program is started elsewhere.
    """
    script = toolchain.script("xtuner", name)
    texts = [str(a.absolute() if isinstance(a, Path) else a) for a in arguments]
    return [toolchain.python("xtuner"), script, *texts]


def command(tool: str, *arguments: object) -> list[str]:
    """Return the command line of one of xtuner's tools, by way of our launcher."""
    return program("launch.py", tool, *arguments)


def environ(recipe: Recipe) -> dict[str, str]:
    """Return the variables that our programs want to find."""
    found = {**ENVIRON, "XTUNER_TRUST_REMOTE_CODE": str(int(recipe.base.trust_remote_code))}
    if recipe.train and recipe.train.launch.threads:
        found["OMP_NUM_THREADS"] = str(recipe.train.launch.threads)
    return found


def run(
    line: Sequence[str],
    recipe: Recipe,
    log: Path,
    each_line: Callable[[str], None] | None = None,
    what_next: str = "",
    devices: int = 0,
    cwd: Path | None = None,
) -> None:
    """Run a program in the toolchain; see process.run.

    Args:
        devices: how many GPUs it wants; it waits for them.
        cwd: where it runs if not in build/<model>, where configs start.
    """
    cwd = cwd or paths.build() / recipe.name
    with pools.devices(devices) as held:
        variables = {**environ(recipe), **held}
        process.run(line, log, environ=variables, cwd=cwd, each_line=each_line, what_next=what_next)
