"""A model's weights, file by file."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.core.model import ahead, shards
from tasks.core.model.shards import Output


def test_a_file_that_fails_stops_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled = []

    def slow(first: int, last: int, room: memoryview) -> None:
        time.sleep(0.02)
        filled.append(first)

    def bad(first: int, last: int, room: memoryview) -> None:
        raise UserError("bad")

    monkeypatch.setattr(ahead, "processors", lambda: 2 * ahead.THREADS)
    monkeypatch.setattr(shards, "PIECE", 8)
    outputs = [
        Output("a", "F32", (1000, 2), slow),
        Output("b", "F32", (2,), bad),
        Output("c", "F32", (2,), slow),
    ]
    with pytest.raises(UserError, match="bad"):
        shards.write_model(tmp_path, outputs, 8, {})
    assert len(filled) < 200
    assert not (tmp_path / shards.INDEX).exists()
