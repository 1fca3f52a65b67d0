"""Make room in the store: what was used longest ago goes, and what nobody names any more."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from .. import settings
from . import lock, manifest
from .cas import LOCK, blob, folder

DAY = 86400
UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


def limit() -> int:
    """Return how many bytes the store may take that nothing else shares."""
    text = settings.current().store_limit
    return int(text[:-2]) * UNITS[text[-2:]]


def collect(most: int, *, wait: bool = False) -> int:
    """Drop the results that were used longest ago until the store takes `most` bytes at most.

    While others use the store, nothing is dropped, or they are waited for.

    Returns:
        The bytes that were freed.  A blob that a build folder shares takes no room of its own.
    """
    if not folder().is_dir():
        return 0
    with lock.alone(folder() / LOCK, "builds that use the store" if wait else None) as ours:
        return sum(map(_drop, _unwanted(_choose(most)))) if ours else 0


def _choose(most: int) -> set[str]:
    """Drop manifests until the blobs of the others take `most` bytes at most; return those."""
    used, kept = 0, set[str]()
    results = (folder() / "results").glob("[!.]*.json")
    for path in sorted(results, key=lambda path: -_changed(path)):
        receipt = manifest.read(path)
        names = {file.digest for file in receipt.files} if receipt else set()
        cost = sum(_own_size(blob(name)) for name in names - kept)
        if receipt is None or used + cost > most:
            path.unlink(missing_ok=True)
            continue
        used += cost
        kept |= names
    return kept


def _unwanted(kept: set[str]) -> Iterator[Path]:
    """Yield the blobs that no manifest names, and what a day ago was still coming."""
    for path in [*(folder() / "blobs").glob("??/*"), *(folder() / "results").glob(".*")]:
        if path.name.startswith("."):
            wanted = _changed(path) > time.time() - DAY
        else:
            wanted = f"sha256:{path.name}" in kept
        if not wanted:
            yield path


def _drop(path: Path) -> int:
    """Remove a file; return the bytes that this freed."""
    freed = _own_size(path)
    path.unlink(missing_ok=True)
    return freed


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0


def _own_size(path: Path) -> int:
    """Return the bytes that a file takes and shares with no other name."""
    try:
        stat = path.stat()
    except OSError:
        return 0
    return stat.st_size if stat.st_nlink == 1 else 0
