"""Write a large file from its start to its end, hashed on the way and past the page cache.

Writing through the page cache takes more processor time than all the arithmetic of a merge, and
what it fills is then read from the disk by whoever fills it next.  Where a file system will not
have it, the file is written as any other.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

# Places and lengths of direct writes must be multiples of a disk's block; no disk has larger ones.
ALIGNED = 4096
BUFFER = 4 << 20


class HashedFile:
    """A file being written; `digest` is that of all that was written so far."""

    def __init__(self, path: Path) -> None:
        self._file = _open(path)
        self._sha, self._hasher = hashlib.sha256(), ThreadPoolExecutor(1)
        self._disk, self._writing = ThreadPoolExecutor(1), Future[None]()
        self._writing.set_result(None)
        # Pages of their own are aligned.  One is filled while the other is written.
        self._full, self._room = (memoryview(mmap.mmap(-1, BUFFER)) for _ in range(2))
        self._filled = self._size = 0

    def __enter__(self) -> HashedFile:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._finish()
        finally:
            self._hasher.shutdown()
            self._disk.shutdown()
            os.close(self._file)

    @property
    def digest(self) -> str:
        return f"sha256:{self._sha.hexdigest()}"

    def write(self, data: bytes | memoryview) -> int:
        """Write and hash some bytes; afterwards their memory may be used again."""
        hashing, view = self._hasher.submit(self._sha.update, data), memoryview(data)
        while view:
            count = min(len(view), BUFFER - self._filled)
            self._room[self._filled : self._filled + count] = view[:count]
            self._filled, view = self._filled + count, view[count:]
            if self._filled == BUFFER:
                self._pass_on()
        hashing.result()
        self._size += len(data)
        return len(data)

    def tell(self) -> int:
        return self._size

    def flush(self) -> None:
        """Do nothing: what is not written yet is written at the end."""

    def _pass_on(self) -> None:
        """Let the full buffer be written, once the other one is."""
        self._writing.result()
        self._full, self._room, self._filled = self._room, self._full, 0
        self._writing = self._disk.submit(_put, self._file, self._full)

    def _finish(self) -> None:
        """Write what is left; its end is no whole block."""
        self._writing.result()
        rest = self._room[: self._filled]
        whole = len(rest) // ALIGNED * ALIGNED
        _put(self._file, rest[:whole])
        _through_cache(self._file)
        _put(self._file, rest[whole:])


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
