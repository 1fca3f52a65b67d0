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


def lend(size: int) -> memoryview:
    return memoryview(bytearray(size))


def test_pieces_come_in_order_whichever_is_filled_first() -> None:
    sizes = [number % 5 for number in range(40)]
    jobs = [Job(size, partial(fill, number)) for number, size in enumerate(sizes)]
    found = [bytes(piece) for piece in ahead.filled(jobs, lend)]
    assert found == [bytes([number]) * size for number, size in enumerate(sizes)]


def test_few_pieces_are_filled_before_the_first_is_taken() -> None:
    lent: list[int] = []

    def count(size: int) -> memoryview:
        lent.append(size)
        return lend(size)

    jobs = [Job(9, partial(fill, number)) for number in range(50)]
    for number, _ in enumerate(ahead.filled(jobs, count)):
        assert len(lent) - number <= ahead.MOST


def test_an_error_reaches_the_taker_and_the_rest_is_not_begun() -> None:
    begun, before = [], threading.active_count()

    def fails(number: int, room: memoryview) -> None:
        begun.append(number)
        raise ValueError(number)

    with pytest.raises(ValueError, match="0"):
        list(ahead.filled([Job(1, partial(fails, number)) for number in range(50)], lend))
    assert len(begun) <= ahead.THREADS + 2
    assert threading.active_count() == before


def test_nothing_to_fill_is_nothing() -> None:
    assert list(ahead.filled([], lend)) == []
