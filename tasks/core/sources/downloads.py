"""Fetch files of known size and digest: side by side, resumed, hashed in flight."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .. import console, paths
from ..engine import digests
from ..errors import UserError
from .fetched import alone, copied, is_whole, link, partial, place
from .sink import Progress
from .transfer import Remote, copy, transfer

WORKERS = 8
# Left free: a disk that is full to the last byte stops more than us.
RESERVE = 64 << 20


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
        link(remote.digest, folder / remote.path)


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
            f"{folder}: {console.size(needed)} to fetch and {console.size(RESERVE)} to leave free, "
            f"but {console.size(free)} are free; free some space, or set MODELWRIGHT_BUILD to a "
            "folder on a larger disk"
        )


def _partial_size(remote: Remote) -> int:
    path = partial(remote.digest)
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
        found = _readable(remote, nearby)
        if found and _adopt(found, remote):
            progress.add(remote.size)
            return None
        came, partly = copied(remote.digest), partial(remote.digest)
        digest = copy(found, remote, came, progress) if found else None
        if not digest:
            came, digest = partly, transfer(remote, partly, headers, progress)
        # One copy for all recipes: nobody should write to it in passing.
        came.chmod(0o444)
        came.rename(target)
        partly.unlink(missing_ok=True)
        return digest


def _readable(remote: Remote, nearby: Callable[[Remote], Path | None]) -> Path | None:
    """Return the file on this machine that may be the same, unless it is not ours to read."""
    try:
        found = nearby(remote)
        if found:
            found.open("rb").close()
    except OSError:
        return None
    return found


def _adopt(found: Path, remote: Remote) -> bool:
    """Give a file that is elsewhere on this disk a second name here, if it is the one."""
    target = place(remote.digest)
    try:
        target.hardlink_to(found.resolve())
    except OSError:  # another disk, or somebody else's file: it has to be copied
        return False
    if is_whole(target, remote.size, remote.digest):
        return True
    target.unlink()
    return False
