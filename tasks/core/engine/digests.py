"""sha256 of files, computed at most once for each state that a file is in.

A file's state is (device, inode, size, mtime_ns, ctime_ns).  Digests by state live in a small
SQLite database in the build folder; losing it costs one more reading of the files, nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .. import console, paths
from ..errors import UserError
from . import untouched

if TYPE_CHECKING:
    import sqlite3

State = tuple[int, int, int, int, int]
BLOCK = 1 << 20
# What is smaller is read in no time.
LARGE = 1 << 24
# Reading goes on silently for half a second or so.
SHOWN = 1 << 29
# Before a file is read, its last change must be older than a tick, so that a later one shows.
TICK_NS = untouched.TICK_NS

_open: dict[Path, sqlite3.Connection] = {}


def of_bytes(content: bytes) -> str:
    """Return the digest of some bytes."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def of_file(path: Path) -> str:
    """Return the digest of a file, from the cache if the file is as it was.

    Raises:
        UserError: the file changed while it was read.
    """
    known = _ask(state_of(path))
    if known:
        return known
    _wait_a_tick(state_of(path))
    state = state_of(path)
    digest = read(path)
    if state_of(path) != state:
        raise UserError(f"{path}: changed while it was read; run again when it is at rest")
    _keep({state: digest})
    return digest


def of_result(path: Path) -> str:
    """Return the digest of a file that a stage has made: nobody else writes it, so none waits."""
    state = state_of(path)
    known = _ask(state)
    if known:
        return known
    digest = read(path)
    _keep({state: digest})
    return digest


def state_of(path: Path) -> State:
    """Return what tells one state of a file from the next; a link's is that of its target."""
    untouched.saw(path)
    return _state(path.stat())


def _state(stat: os.stat_result) -> State:
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns


def known(path: Path) -> str | None:
    """Return the digest of a file if the cache has it for the file's present state."""
    try:
        return _ask(state_of(path))
    except OSError:
        return None


def remember(path: Path, digest: str) -> None:
    """Note the digest of a file as it is now, if nobody writes to it."""
    state = state_of(path)
    _wait_a_tick(state)
    if state_of(path) == state:
        _keep({state: digest})


@contextlib.contextmanager
def carried(files: Iterable[Path]) -> Iterator[None]:
    """Keep the digests of large files of many names while one of their names is taken away.

    That changes a file's ctime, so it would be read again; a write would change its mtime, too.
    """
    with contextlib.ExitStack() as stack:
        held = []
        for path in files:
            with contextlib.suppress(OSError):
                shared = path.stat().st_nlink > 1 and path.stat().st_size >= LARGE
                if shared and (digest := known(path)):
                    file = stack.enter_context(path.open("rb"))
                    held.append((file, _state(os.fstat(file.fileno())), digest))
        yield
        now = [(_state(os.fstat(file.fileno())), old, digest) for file, old, digest in held]
        _keep({state: digest for state, old, digest in now if state[:4] == old[:4]})


def is_at_rest(state: State) -> bool:
    """Return whether a write to a file that is in this state would change its mtime."""
    return not 0 <= time.time_ns() - state[3] < TICK_NS


def _wait_a_tick(state: State) -> None:
    age = time.time_ns() - state[3]
    if 0 <= age < TICK_NS:
        time.sleep((TICK_NS - age) / 1e9)


def _keep(known: Mapping[State, str]) -> None:
    rows = [(*state, digest) for state, digest in known.items()]
    _do(lambda db: db.executemany("insert or replace into digest values (?, ?, ?, ?, ?, ?)", rows))


def states(files: Iterable[Path]) -> dict[Path, tuple[State, str]]:
    """Return the state and the digest of each file whose digest is known."""
    found = {}
    for path in files:
        with contextlib.suppress(OSError):
            state = state_of(path)
            digest = _ask(state)
            if digest:
                found[path] = (state, digest)
    return found


def carry(before: Mapping[Path, tuple[State, str]], places: Mapping[Path, Path]) -> None:
    """Note the digests of files once more, and of the places that were linked to them.

    A new name changes a file's ctime alone; one whose other times differ was written to meanwhile.
    """
    same = {p: digest for p, (state, digest) in before.items() if state_of(p)[:4] == state[:4]}
    _keep({state_of(path): digest for path, digest in same.items()})
    _keep({state_of(place): same[path] for place, path in places.items() if path in same})


def forget(path: Path) -> None:
    """Drop what is noted of a file, so that it is read when it is next asked for."""
    with contextlib.suppress(OSError):
        state = state_of(path)
        _do(lambda db: db.execute("delete from digest where device=? and inode=?", state[:2]))


def read(path: Path) -> str:
    """Return the digest of a file's bytes, whatever the cache says."""
    sha, done = hashlib.sha256(), 0
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            sha.update(view[:count])
            done += count
            if done % SHOWN == 0:
                console.status(f"reading {path.name}: {console.size(done)}")
    if done >= SHOWN:
        console.clear()
    return f"sha256:{sha.hexdigest()}"


def _ask(state: State) -> str | None:
    row = _do(
        lambda db: db.execute(
            "select digest from digest "
            "where device=? and inode=? and size=? and mtime=? and ctime=?",
            state,
        ).fetchone()
    )
    return str(row[0]) if row else None


def _do(work: Callable[[sqlite3.Connection], object]) -> tuple[object, ...] | None:
    """Run a query; the cache is a convenience, so a database that fails is put aside."""
    import sqlite3

    # In a folder of its own, which its journal's coming and going changes, not the build folder.
    path = paths.build() / ".digests" / "cache.db"
    try:
        result = work(_database(path))
    except sqlite3.OperationalError:  # busy, or a disk that is full: ask again next time
        return None
    except sqlite3.DatabaseError:
        _open.pop(path, None)
        with contextlib.suppress(OSError):
            path.unlink()
        return None
    except OSError:
        return None
    return result if isinstance(result, tuple) else None


def _database(path: Path) -> sqlite3.Connection:
    import sqlite3

    if path not in _open:
        path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        db.execute("pragma journal_mode=wal")
        db.execute("pragma synchronous=off")
        db.execute(
            "create table if not exists digest (device, inode, size, mtime, ctime, digest, "
            "primary key (device, inode)) without rowid"
        )
        _open[path] = db
    return _open[path]
