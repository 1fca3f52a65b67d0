"""Pieces that are filled ahead."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from tasks.core.model import ahead
from tasks.core.model.ahead import Job


def fill(number: int, room: memoryview) -> None:
    time.sleep(0.002 * (number % 3))
    room[:] = bytes([number]) * len(room)


def test_pieces_come_in_order_whichever_is_filled_first() -> None:
    sizes = [number % 5 for number in range(40)]
    jobs = [Job(size, partial(fill, number)) for number, size in enumerate(sizes)]
    found = [bytes(piece) for piece in ahead.filled(jobs)]
    assert found == [bytes([number]) * size for number, size in enumerate(sizes)]


def test_memory_does_not_grow_with_what_is_filled() -> None:
    rooms = {id(piece.obj) for piece in ahead.filled([Job(9, partial(fill, n)) for n in range(50)])}
    assert len(rooms) <= ahead.THREADS + 2


def test_an_error_reaches_the_taker_and_the_rest_is_not_begun() -> None:
    begun, before = [], threading.active_count()

    def fails(number: int, room: memoryview) -> None:
        begun.append(number)
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        list(ahead.filled([Job(1, partial(fails, number)) for number in range(50)]))
    assert len(begun) <= ahead.THREADS + 2
    assert threading.active_count() == before


def test_nothing_to_fill_is_nothing() -> None:
    assert list(ahead.filled([])) == []
