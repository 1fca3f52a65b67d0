"""A model's weights, file by file."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.core.model import ahead, safetensors, shards
from tasks.core.model.shards import Output
from tasks.core.model.tensors import read


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


def test_a_stack_of_matrices_is_written_in_pieces_of_the_usual_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, sizes = bytes(range(240)), []

    def fill(first: int, last: int, room: memoryview) -> None:
        sizes.append(len(room))
        room[:] = content[first * 8 : last * 8]

    monkeypatch.setattr(shards, "PIECE", 16)
    shards.write(tmp_path / "f.safetensors", [Output("experts", "F32", (3, 10, 2), fill)], {})
    (tensor,) = safetensors.read(tmp_path / "f.safetensors").tensors.values()
    assert read(tensor) == content
    assert read(tensor, 9, 11) == content[72:88]
    assert max(sizes) == 16
