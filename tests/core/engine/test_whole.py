"""Files that are whole or not there."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.core.engine import whole


def test_a_file_is_replaced_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"

    whole.write(path, b"old")
    whole.write(path, "äöü")

    assert path.read_bytes() == "äöü".encode()
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    whole.write(path, b"old")

    with pytest.raises(FileNotFoundError), whole.coming(path) as new:
        new.write_bytes(b"ha") and (tmp_path / "no" / "such").stat()

    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_threads_that_write_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "file"
    texts = [str(number) * 100_000 for number in range(8)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda text: whole.write(path, text), texts))

    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]
