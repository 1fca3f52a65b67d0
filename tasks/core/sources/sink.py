"""What passes on its way to a file: counted, hashed beside the writing, begun anew if need be."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, BinaryIO

from .. import console
from ..engine import digests
from ..errors import UserError

if TYPE_CHECKING:
    from .transfer import Remote

# From this size on a file is hashed by a thread of its own.
BIG = 64 << 20


class Progress:
    """What all transfers together have done, and whether they must stop."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.stopped = threading.Event()

    def add(self, count: int) -> None:
        """Count bytes; show them now and then."""
        if self.stopped.is_set():
            raise InterruptedError(errno.EINTR, "stopped")
        self.done += count
        console.status(f"{console.size(self.done)} of {console.size(self.total)}")


class Hasher:
    """sha256 of a file and, where a Git object's SHA-1 was promised, that too."""

    def __init__(self, size: int, digest: str) -> None:
        self.expected = digest
        self.sha256 = hashlib.sha256()
        # Git's own object format; SHA-1 is what the Hub tells of small files, not our choice.
        self.git = hashlib.sha1(b"blob %d\0" % size, usedforsecurity=False)

    def update(self, block: bytes) -> None:
        self.sha256.update(block)
        if self.expected.startswith("git:"):
            self.git.update(block)

    @property
    def agrees(self) -> bool:
        """Whether the bytes so far are those that were promised."""
        return self.expected in (f"sha256:{self.sha256.hexdigest()}", f"git:{self.git.hexdigest()}")


class Sink:
    """The file that huggingface_hub writes to: it hashes what passes, beside the writing."""

    def __init__(self, file: BinaryIO, remote: Remote, progress: Progress) -> None:
        self.file, self.remote, self.progress = file, remote, progress
        self.hasher = Hasher(remote.size, remote.digest)
        self.thread: ThreadPoolExecutor | None = None
        self.pending: Future[None] | None = None
        file.seek(0)
        while block := file.read(digests.BLOCK):
            self.hasher.update(block)

    def write(self, block: bytes) -> int:
        if self.file.tell() + len(block) > self.remote.size:
            raise UserError(f"{self.remote.path}: the server sends more than it promised")
        self.settle()
        self.progress.add(len(block))
        if self.remote.size < BIG or self.file.tell() + len(block) == self.remote.size:
            # Small files come several at a time, and beside the end of a big one nothing runs.
            self.hasher.update(block)
        else:
            self.thread = self.thread or ThreadPoolExecutor(1)
            self.pending = self.thread.submit(self.hasher.update, block)
        return self.file.write(block)

    def tell(self) -> int:
        return self.file.tell()

    def seek(self, position: int) -> int:
        return self.file.seek(position)

    def truncate(self) -> int:
        """Begin anew: the server does not resume."""
        self.settle()
        self.progress.done -= self.file.seek(0, os.SEEK_END)
        self.file.seek(0)
        self.hasher = Hasher(self.remote.size, self.remote.digest)
        return self.file.truncate()

    def settle(self) -> None:
        """Wait until all that was written is hashed."""
        if self.pending:
            self.pending.result()
            self.pending = None

    def close(self) -> None:
        self.settle()
        if self.thread:
            self.thread.shutdown()
