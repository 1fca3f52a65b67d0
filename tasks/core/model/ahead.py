"""Fill pieces of memory in threads, a few ahead of whoever takes them.

What is filled is taken in order, so that results do not depend on how many threads there are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from concurrent.futures import Future

# One thread hashes what these fill; more of them would only wait for it.
THREADS = 4
# So many pieces are filled or being filled at most.
MOST = THREADS + 2


class Job(NamedTuple):
    """How many bytes to fill, and what does it."""

    size: int
    fill: Callable[[memoryview], None]


def filled(jobs: Iterable[Job], lend: Callable[[int], memoryview]) -> Iterator[memoryview]:
    """Yield what each job fills, in order.

    Args:
        lend: gives memory for so many bytes; asked in the order of the jobs.
    """
    from concurrent.futures import ThreadPoolExecutor

    threads = min(THREADS, processors())
    waiting: deque[tuple[memoryview, Future[None]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for job in jobs:
                if len(waiting) == threads + 2:
                    yield _taken(waiting)
                room = lend(job.size)
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
