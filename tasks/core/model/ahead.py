"""Fill pieces of memory in threads, a few ahead of whoever takes them; memory serves again.

What is filled is taken in order, so that results do not depend on how many threads there are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

# One thread writes and hashes what these fill; more of them would only wait for it.
THREADS = 4


class Job(NamedTuple):
    """How many bytes to fill, and what does it."""

    size: int
    fill: Callable[[memoryview], None]


def filled(jobs: Sequence[Job]) -> Iterator[memoryview]:
    """Yield what each job fills, in order; it is good until the next one is asked for."""
    size = max((job.size for job in jobs), default=0)
    threads = min(THREADS, processors())
    rooms = [memoryview(bytearray(size)) for _ in range(threads + 2)]
    waiting: deque[tuple[memoryview, Future[None]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for number, job in enumerate(jobs):
                if number >= len(rooms):
                    yield _taken(waiting)
                room = rooms[number % len(rooms)][: job.size]
                waiting.append((room, pool.submit(job.fill, room)))
            while waiting:
                yield _taken(waiting)
        finally:
            for _, future in waiting:
                future.cancel()


def _taken(waiting: deque[tuple[memoryview, Future[None]]]) -> memoryview:
    room, future = waiting.popleft()
    future.result()
    return room


def read(path: Path, start: int, room: memoryview) -> int:
    """Fill memory with a file's bytes from `start` on; return how many there were."""
    done = 0
    with path.open("rb", buffering=0) as file:
        while done < len(room) and (count := os.preadv(file.fileno(), [room[done:]], start + done)):
            done += count
    return done


def processors() -> int:
    """Return how many processors this build may use."""
    return len(os.sched_getaffinity(0))
