"""Tell files' CRC-32s before their content is wanted.

A file is summed in parts, by all processors, while whoever took the one before it is using that.
No more than one is summed ahead, so that its second reader still finds it in the page cache.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .. import console
from ..engine import digests
from . import ahead, crc32

if TYPE_CHECKING:
    from concurrent.futures import Executor, Future

PART = 1 << 24
PIECE = 1 << 20


class Summed(NamedTuple):
    """A file, the state that it was in before it was read, and its CRC-32."""

    path: Path
    state: digests.State
    crc: int


def summed(files: Iterable[Path]) -> Iterator[Summed]:
    """Yield each file with its checksum; the next file's is computed meanwhile."""
    from concurrent.futures import ThreadPoolExecutor

    begun: deque[_Sum] = deque()
    pool = ThreadPoolExecutor(ahead.processors())
    try:
        for path in files:
            begun.append(_Sum(path, pool))
            if len(begun) == 2:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


class _Sum:
    """A file that is being summed."""

    def __init__(self, path: Path, pool: Executor) -> None:
        self._path, self._state = path, digests.state_of(path)
        size = self._state[2]
        self._parts: list[tuple[int, Future[int]]] = []
        for start in range(0, size, PART):
            length = min(PART, size - start)
            self._parts.append((length, pool.submit(_of_part, path, start, length)))

    def result(self) -> Summed:
        console.status(f"reading {self._path.name}")
        crc = 0
        for length, part in self._parts:
            crc = crc32.joined(crc, part.result(), length)
        return Summed(self._path, self._state, crc)


def _of_part(path: Path, start: int, left: int) -> int:
    crc, room = 0, memoryview(bytearray(min(PIECE, left)))
    while left and (count := ahead.read(path, start, room[:left])):
        crc, start, left = zlib.crc32(room[:count], crc), start + count, left - count
    return crc
