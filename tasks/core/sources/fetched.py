"""What was fetched: each file once in the build folder, by its digest, and stages link to it.

Two recipes with one base share the copy, and a new revision fetches only what changed.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .. import paths
from ..engine import digests, lock, manifest
from .sink import Hasher

DAY = 86400


def place(digest: str) -> Path:
    """Return where the file with a digest lies, or will."""
    return paths.build() / ".downloads" / digest.replace(":", "-")


def partial(digest: str) -> Path:
    """Return where a file is while it comes."""
    return _beside(place(digest), ".part")


def copied(digest: str) -> Path:
    """Return where a file is while it is copied: what is on this machine may be another."""
    return _beside(place(digest), ".copy.part")


def link(digest: str, at: Path) -> None:
    """Put a link to a fetched file; relative, so that the build folder can be moved."""
    at.parent.mkdir(parents=True, exist_ok=True)
    at.unlink(missing_ok=True)
    at.symlink_to(os.path.relpath(place(digest), at.parent))


def take(path: Path, digest: str) -> Path:
    """Move a file that another program fetched and verified to its place among the fetched."""
    target = place(digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)
    if digest.startswith("sha256:"):
        digests.remember(target, digest)
    return target


def holds(digest: str, size: int) -> bool:
    """Return whether a file was fetched and is whole; one that is asked for stays for a day."""
    with alone(place(digest)):
        return is_whole(place(digest), size, digest)


def is_whole(path: Path, size: int, digest: str) -> bool:
    """Return whether a file is what it should be; a file not changed since is not read again."""
    if not path.is_file() or path.stat().st_size != size:
        return False
    if digest.startswith("git:"):
        hasher = Hasher(size, digest)
        with path.open("rb") as file:
            while block := file.read(digests.BLOCK):
                hasher.update(block)
        return hasher.agrees
    return digests.of_file(path) == digest


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Let one build fetch a file or a clone; another waits and finds it there."""
    path = _beside(target, ".lock")
    with lock.alone(path, waiting=""):
        # `collect` asks when this was last asked for.
        os.utime(path)
        yield


def collect(now: float | None = None) -> int:
    """Drop fetched files that no stage links to; return the bytes that were freed.

    What was asked for within the last day stays: a build may be about to link it.
    """
    folder = (paths.build() / ".downloads").resolve()
    models = [path for path in paths.build().glob("*") if not path.name.startswith(".")]
    linked = {p.resolve() for model in models for p in model.rglob("*") if p.is_symlink()}
    found = {path.with_name(path.name.removesuffix(".lock")) for path in folder.glob("*")}
    return sum(_drop(path, (now or time.time()) - DAY) for path in found - linked)


def _drop(path: Path, oldest: float) -> int:
    """Remove what nobody has asked for since; return the bytes that this freed."""
    name = path.name.removesuffix(".part").removesuffix(".copy")
    asked, freed = _beside(path.with_name(name), ".lock"), 0
    with lock.alone(asked) as ours:
        there = [each for each in (path, asked) if each.exists()]
        if not ours or any(each.stat().st_mtime > oldest for each in there):
            return 0
        if path.is_dir():  # what a killed clone left
            freed = sum(each.lstat().st_size for each in manifest.walk(path))
            shutil.rmtree(path)
        elif path.exists():
            freed = path.stat().st_size
            path.unlink()
        asked.unlink()
    return freed


def _beside(target: Path, suffix: str) -> Path:
    return target.with_name(f"{target.name}{suffix}")
