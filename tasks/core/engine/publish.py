"""Make a stage's folder appear whole or not at all: work in a scratch folder, then rename."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from .. import paths
from ..errors import UserError
from . import digests, lock, manifest

# In a scratch folder, the number of a job that works there although no build does.
JOB = "slurm-job"


def prepare(model: str, stage: str, key: str, *, resumes: bool) -> Path:
    """Return the scratch folder for a key: empty, or as a killed run left it where it resumes."""
    folder = paths.scratch(model, stage, key)
    if not resumes:
        sweep(model, stage)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def sweep(model: str, stage: str) -> None:
    """Remove what earlier runs of a stage left unfinished."""
    for leftover in unfinished(model, stage):
        with contextlib.suppress(OSError):
            remove(leftover)


def unfinished(model: str, stage: str) -> list[Path]:
    """Return the folders that earlier runs of a stage left unfinished."""
    return sorted(paths.output(model, stage).parent.glob(f".{stage}-*"))


def check_nobody_works(model: str, stage: str) -> None:
    """Refuse to take a folder away in which a job works although no build does."""
    for note in (folder / JOB for folder in unfinished(model, stage)):
        if note.exists():
            number = note.read_text(encoding="utf-8").strip()
            raise UserError(
                f"{note.parent}: Slurm's job {number} works in it; cancel it with "
                f"`scancel {number}`, delete {note} and run clean again"
            )


def collect(model: str, stage: str, key: str) -> int:
    """Remove what unfinished runs of other keys left; return the bytes that were freed.

    Raises:
        OSError: something of it stays.
    """
    freed = 0
    for leftover in unfinished(model, stage):
        wanted = leftover == paths.scratch(model, stage, key) or (leftover / JOB).exists()
        if not wanted and not lock.is_held(model, stage):
            taken = size(leftover)
            remove(leftover)
            freed += taken
    return freed


def size(folder: Path) -> int:
    """Return the bytes of all files below a folder; a link has none."""
    if folder.is_symlink():
        return 0
    return sum(path.lstat().st_size for path in manifest.walk(folder))


def finished(model: str, stage: str, key: str) -> Path | None:
    """Return the scratch folder of a run that was killed between its manifest and its renaming."""
    folder = paths.scratch(model, stage, key)
    found = manifest.read(folder / manifest.NAME)
    whole = found is not None and found.key == key and manifest.intact(found, folder)
    return folder if whole else None


def publish(scratch: Path, model: str, stage: str) -> None:
    """Put a finished scratch folder in the place of the stage's old result.

    Killed between the two renames, nothing is lost: `finished` finds the folder again.
    """
    place = paths.output(model, stage)
    old = place.parent / f".{stage}-old"
    remove(old)
    if place.exists() or place.is_symlink():
        place.rename(old)
    scratch.rename(place)
    manifest.fsync(place.parent)
    # The new result is in place whatever becomes of the old one.
    with contextlib.suppress(OSError):
        remove(old)


def remove(path: Path) -> None:
    """Remove a folder, if it is there; a link or a file goes alone.

    What the store shares of it stays known, and comes back at once.

    Raises:
        OSError: something of it stays.
    """
    if path.is_symlink() or not path.is_dir():
        path.unlink(missing_ok=True)
        return
    with digests.carried(manifest.walk(path)):
        shutil.rmtree(path)
