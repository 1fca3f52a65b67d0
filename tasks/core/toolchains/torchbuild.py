"""Choose a build of torch: a CPU build on a machine without a GPU, wherever pip can find one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import settings
from ..errors import UserError

if TYPE_CHECKING:
    from .interpreters import Interpreter

VERSION = "2.13.0"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"


@dataclass(frozen=True)
class Build:
    """A build of torch and the Python it is for.

    Attributes:
        version: as the wheel says, `2.13.0+cpu` or `2.13.0`.
        requirement: what to ask pip for.
    """

    python: Interpreter
    version: str
    requirement: Sequence[str]

    @property
    def is_cpu(self) -> bool:
        """Whether the build needs none of CUDA's packages; only Linux has builds that do."""
        return "+cpu" in self.version or sys.platform != "linux"

    @property
    def gigabytes(self) -> int:
        """The disk that a toolchain with this build takes."""
        return 2 if self.is_cpu else 8


def choose(pythons: Sequence[Interpreter]) -> Build:
    """Return the build for this machine, with the first Python that there is one for.

    Raises:
        UserError: no CPU build can be had; CUDA's packages are never taken unasked.
    """
    if is_cuda():
        return Build(pythons[0], VERSION, [f"torch=={VERSION}"])
    for ways in ([], ["--index-url", CPU_INDEX]):
        for python in pythons:
            found = _look_up(python, ways)
            build = Build(python, found, [*ways, f"torch=={found}"])
            if found and build.is_cpu:
                return build
    versions = ", ".join(python.version for python in pythons)
    raise UserError(
        f"no CPU build of torch {VERSION} for Python {versions}: pip's indexes and find-links have "
        f"none, and {CPU_INDEX} gives none.\n"
        "Set PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL to where one is, or MODELWRIGHT_TORCH=cuda to "
        "take the CUDA build with its gigabytes, or MODELWRIGHT_TOOLCHAIN_XTUNER to a Python with "
        "xtuner"
    )


def is_cuda() -> bool:
    """Return whether the toolchain gets the CUDA build: as set, else where there is a GPU."""
    wish = settings.current().torch
    return wish == "cuda" or (wish == "auto" and has_gpu())


def has_gpu() -> bool:
    """Return whether this machine has an NVIDIA GPU and its driver."""
    return Path("/dev/nvidiactl").exists() and shutil.which("nvidia-smi") is not None


def _look_up(python: Interpreter, ways: Sequence[str]) -> str:
    """Return the version of the build that pip would install for a Python, or nothing."""
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--dry-run", "--no-deps", "--ignore-installed",
         "--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1",
         "--timeout", "20",
         "--only-binary", ":all:", "--python-version", python.version, "--target", "unused",
         "--report", "-", *ways, f"torch=={VERSION}"],
        capture_output=True,
        text=True,
    )  # fmt: skip
    try:
        return str(json.loads(done.stdout)["install"][0]["metadata"]["version"])
    except (ValueError, LookupError):
        return ""
