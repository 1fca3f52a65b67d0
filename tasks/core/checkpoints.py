"""The checkpoints that training leaves: iter_N.pth, a file of torch or a folder of DeepSpeed."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

NAME = re.compile(r"iter_(\d+)\.pth")


def number(path: Path) -> int:
    """Return the iteration of a checkpoint."""
    found = NAME.fullmatch(path.name)
    assert found
    return int(found[1])


def all_in(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first."""
    return sorted((p for p in folder.iterdir() if NAME.fullmatch(p.name)), key=number)


def newest(folder: Path) -> Path | None:
    """Return the newest whole checkpoint in a folder, if any."""
    whole = [path for path in all_in(folder) if is_whole(path)]
    return whole[-1] if whole else None


def is_whole(path: Path) -> bool:
    """Return whether a checkpoint was written to its end: a zip's table of contents comes last."""
    if path.is_dir():
        parts = list(path.glob("*.pt"))
        return bool(parts) and all(map(zipfile.is_zipfile, parts))
    return zipfile.is_zipfile(path)


def drop_broken(folder: Path) -> None:
    """Remove checkpoints that a kill cut short; they must not be resumed from, or kept."""
    for path in all_in(folder):
        if not is_whole(path):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
