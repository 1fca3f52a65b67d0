"""Find the Pythons of this machine that xtuner can run on."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError

# xtuner 0.2.0 says <3.13; our pins start at 3.10, and 3.11 is the one that is tested most.
MINORS = (11, 12, 10)


@dataclass(frozen=True)
class Interpreter:
    """A Python: its path and its version as `3.11`."""

    path: str
    version: str


def usable() -> list[Interpreter]:
    """Return the usable Pythons: our own first, then those on PATH, of pyenv and of uv.

    Raises:
        UserError: there is none.
    """
    found: dict[str, Interpreter] = {}
    for path in _candidates():
        version = _version(path)
        if version and version not in found and version in {f"3.{minor}" for minor in MINORS}:
            found[version] = Interpreter(path, version)
    if not found:
        own = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise UserError(
            f"xtuner needs Python 3.10, 3.11 or 3.12; this is {own} and no other was found on "
            "PATH, in pyenv or in uv.  Install one, for example with `uv python install 3.11` or "
            "`pyenv install 3.11`, or point MODELWRIGHT_TOOLCHAIN_XTUNER at one that has xtuner"
        )
    return list(found.values())


def _candidates() -> Iterator[str]:
    yield sys.executable
    homes = (Path.home() / ".pyenv/versions", Path.home() / ".local/share/uv/python")
    for minor in MINORS:
        on_path = shutil.which(f"python3.{minor}")
        if on_path:
            yield on_path
        for home in homes:
            yield from sorted(
                map(str, home.glob(f"*3.{minor}.*/bin/python3.{minor}")), reverse=True
            )


def _version(path: str) -> str | None:
    """Return `3.11` for a Python that runs and can make environments; a pyenv shim may not."""
    try:
        done = subprocess.run(
            [path, "-c", "import sys, venv; print(*sys.version_info[:2], sep='.')"],
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    answer = done.stdout.strip()
    return answer if done.returncode == 0 and re.fullmatch(r"3\.\d+", answer) else None
