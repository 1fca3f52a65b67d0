"""Write a large file from its start to its end, hashed on the way and past the page cache.

Writing through the page cache takes more processor time than all the arithmetic of a merge, and
what it fills is then read from the disk by whoever fills it next.  Where a file system will not
have it, the file is written as any other.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import mmap
import os
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from . import ahead

# Places and lengths of direct writes must be multiples of a disk's block; no disk has larger ones.
ALIGNED = 4096
# While some pieces are filled, others are hashed and written.
ROOMS = ahead.MOST + 3


class Room:
    """Memory for a piece of the file, and before it for the rest of the piece before.

    A file's blocks are written as they lie here, so nothing is copied but that rest.
    """

    def __init__(self) -> None:
        self.memory = memoryview(bytearray())
        self.users: list[Future[object]] = []

    def wait(self) -> None:
        """Wait until nobody uses the memory."""
        while self.users:
            self.users.pop().result()

    def take(self, rest: int, size: int) -> memoryview:
        """Return memory for a piece."""
        self.wait()
        if len(self.memory) < rest + size:
            self.memory = memoryview(_pages(ALIGNED + size))
        return self.memory[rest : rest + size]


def _pages(size: int) -> mmap.mmap:
    """Return memory that is aligned, in large pages where the system has them.

    They take a fifth of the system's time off a merge: fewer are to be looked up and held.
    """
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(OSError):
        pages.madvise(mmap.MADV_HUGEPAGE)
    return pages


class HashedFile:
    """A file being written; `digest` is that of all that was written so far."""

    def __init__(self, path: Path) -> None:
        self._file = _open(path)
        self._sha, self._hasher = hashlib.sha256(), ThreadPoolExecutor(1)
        self._disk = ThreadPoolExecutor(1)
        # In the order in which their memory serves again; and those that are being filled.
        self._rooms, self._lent = deque(Room() for _ in range(ROOMS)), deque[tuple[Room, int]]()
        self._size = self._promised = 0
        self._rest = b""

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._hasher.shutdown(cancel_futures=True)
            self._disk.shutdown(cancel_futures=True)
            os.close(self._file)

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha.hexdigest()}"

    def write(self, data: bytes | memoryview) -> int:
        """Write and hash some bytes; afterwards their memory may be used again.

        What lies in memory that was lent is not copied.  Pieces are written in the order in which
        their memory was lent.
        """
        if not self._lent or memoryview(data).obj is not self._lent[0][0].memory.obj:
            self.lend(len(data))[:] = data
        self._pass_on()
        return len(data)

    def lend(self, size: int) -> memoryview:
        """Return memory for the next piece."""
        room = self._rooms.popleft()
        piece = room.take(self._promised % ALIGNED, size)
        self._lent.append((room, size))
        self._promised += size
        return piece

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Do nothing: what is not written yet is written at the end."""

    def _pass_on(self) -> None:
        """Let the piece whose memory was lent first be hashed and written."""
        room, size = self._lent.popleft()
        start, end = len(self._rest), len(self._rest) + size
        whole = end // ALIGNED * ALIGNED
        room.memory[:start] = self._rest
        self._rest = bytes(room.memory[whole:end])
        room.users = [
            self._hasher.submit(self._sha.update, room.memory[start:end]),
            self._disk.submit(_put, self._file, room.memory[:whole]),
        ]
        self._rooms.append(room)
        self._size += size

    def _finish(self) -> None:
        """Write what is left, which is no whole block."""
        for room in self._rooms:
            room.wait()
        _through_cache(self._file)
        _put(self._file, memoryview(self._rest))


def _open(path: Path) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_DIRECT, 0o666)
    except OSError:
        return os.open(path, flags, 0o666)


def _put(file: int, data: memoryview) -> None:
    while data:
        try:
            data = data[os.write(file, data) :]
        except OSError as error:
            # Some file systems refuse only now, or have larger blocks.
            if error.errno != errno.EINVAL or not _through_cache(file):
                raise


def _through_cache(file: int) -> bool:
    """Write through the page cache from here on; return whether that is new."""
    flags = fcntl.fcntl(file, fcntl.F_GETFL)
    fcntl.fcntl(file, fcntl.F_SETFL, flags & ~os.O_DIRECT)
    return bool(flags & os.O_DIRECT)
