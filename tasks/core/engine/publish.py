"""Make a stage's folder appear whole or not at all: work in a scratch folder, then rename."""

from __future__ import annotations

import shutil
from pathlib import Path

from .. import paths
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
    for leftover in paths.output(model, stage).parent.glob(f".{stage}-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def collect(model: str, stage: str, key: str) -> int:
    """Remove what unfinished runs of other keys left; return the bytes that were freed."""
    freed = 0
    for leftover in paths.output(model, stage).parent.glob(f".{stage}-*"):
        wanted = leftover == paths.scratch(model, stage, key) or (leftover / JOB).exists()
        if not wanted and not lock.is_held(model, stage):
            freed += sum(path.lstat().st_size for path in manifest.walk(leftover))
            shutil.rmtree(leftover, ignore_errors=True)
    return freed


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
    remove(old)


def remove(folder: Path) -> None:
    """Remove a result; what the store shares of it stays known, and comes back at once."""
    if folder.is_dir():
        with digests.carried(manifest.walk(folder)):
            shutil.rmtree(folder, ignore_errors=True)
