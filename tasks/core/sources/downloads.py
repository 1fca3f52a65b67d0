"""Fetch files whose size and digest are known beforehand: side by side, resumed, hashed in flight.

A fetched file lies once in the build folder, by its digest, and stages link to it: two recipes with
one base share the copy, and a new revision fetches only what changed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from .. import console, paths
from ..engine import digests, manifest
from ..engine.sink import Hasher, Progress
from ..errors import UserError
from .transfer import Remote, transfer

WORKERS = 8
# Left free: a disk that is full to the last byte stops more than us.
RESERVE = 64 << 20


def place(digest: str) -> Path:
    """Return where the file with a digest lies, or will."""
    return paths.build() / ".downloads" / digest.replace(":", "-")


def collect(now: float | None = None) -> int:
    """Drop fetched files that no stage links to; return the bytes that were freed.

    What came within the last day stays: a build may be about to link it.
    """
    folder, freed = paths.build() / ".downloads", 0
    models = [path for path in paths.build().glob("*") if not path.name.startswith(".")]
    linked = {p.resolve() for model in models for p in model.rglob("*") if p.is_symlink()}
    for path in folder.glob("*"):
        if path.resolve() in linked or path.stat().st_mtime > (now or time.time()) - 86400:
            continue
        if path.is_dir():  # what a killed clone left
            freed += sum(each.lstat().st_size for each in manifest.walk(path))
            shutil.rmtree(path, ignore_errors=True)
        else:
            freed += path.stat().st_size
            path.unlink()
    return freed


def fetch(
    remotes: Sequence[Remote],
    folder: Path,
    headers: Mapping[str, str],
    nearby: Callable[[Remote], Path | None] = lambda remote: None,
) -> None:
    """Link every file into a folder, after fetching those that are not here yet.

    Args:
        headers: sent to the server of each URL, and to no other.
        nearby: finds a file on this machine that may be the same.

    Raises:
        UserError: the disk is too small, or a server sends other bytes than it promised.
    """
    # By digest: several of the files may be one.
    missing = {remote.digest: remote for remote in remotes if not place(remote.digest).exists()}
    refuse_small_disk(sum(remote.size - _partial_size(remote) for remote in missing.values()))
    progress = Progress(sum(remote.size for remote in remotes))
    pool = ThreadPoolExecutor(WORKERS, initializer=console.same_task())
    try:
        # The largest first: a big file begun last would run alone.
        order = sorted(remotes, key=lambda remote: -remote.size)
        jobs = [pool.submit(_get, remote, headers, nearby, progress) for remote in order]
        for remote, job in zip(order, jobs, strict=True):
            if digest := job.result():
                digests.remember(place(remote.digest), digest)
    finally:
        progress.stopped.set()
        pool.shutdown(wait=True, cancel_futures=True)
        console.clear()
    for remote in remotes:
        link(place(remote.digest), folder / remote.path)


def link(target: Path, at: Path) -> None:
    """Put a link to a fetched file; relative, so that the build folder can be moved."""
    at.parent.mkdir(parents=True, exist_ok=True)
    at.unlink(missing_ok=True)
    at.symlink_to(os.path.relpath(target, at.parent))


def take(path: Path, digest: str) -> Path:
    """Move a file that another program fetched and verified to its place among the fetched."""
    target = place(digest)
    target.parent.mkdir(parents=True, exist_ok=True)
    path.replace(target)
    if digest.startswith("sha256:"):
        digests.remember(target, digest)
    return target


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


def refuse_small_disk(needed: int) -> None:
    """Refuse to begin what cannot end.

    Raises:
        UserError: what is needed, and what is free.
    """
    folder = paths.build()
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed and needed + RESERVE > free:
        raise UserError(
            f"{folder}: {console.size(needed)} to fetch, {console.size(free)} free; "
            "free some space, or set MODELWRIGHT_BUILD to a folder on a larger disk"
        )


def _partial(remote: Remote) -> Path:
    target = place(remote.digest)
    return target.with_name(f"{target.name}.part")


def _partial_size(remote: Remote) -> int:
    path = _partial(remote)
    return path.stat().st_size if path.exists() else 0


def _get(
    remote: Remote,
    headers: Mapping[str, str],
    nearby: Callable[[Remote], Path | None],
    progress: Progress,
) -> str | None:
    """Bring one file to its place, unless it is there and whole; return its new sha256."""
    target = place(remote.digest)
    with alone(target):
        if is_whole(target, remote.size, remote.digest):
            progress.add(remote.size)
            return None
        target.unlink(missing_ok=True)
        found = nearby(remote)
        if found and is_whole(found, remote.size, remote.digest) and _adopt(found, target):
            progress.add(remote.size)
            return None
        partial = _partial(remote)
        digest = transfer(remote, partial, headers, progress)
        # One copy for all recipes: nobody should write to it in passing.
        partial.chmod(0o444)
        partial.rename(target)
        return digest


def _adopt(found: Path, target: Path) -> bool:
    """Give a file that is elsewhere on this disk a second name here; never a second copy."""
    try:
        target.hardlink_to(found.resolve())
    except OSError:
        return False
    return True


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Let one build fetch a file or a clone; another waits and finds it there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.with_name(f"{target.name}.lock").open("w") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
        yield
