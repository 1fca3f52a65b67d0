"""Checksums of files, known before their content is wanted."""

from __future__ import annotations

import os
import threading
import time
import zlib
from pathlib import Path

import pytest

from tasks.core.model import checksums


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "PART", 100)
    monkeypatch.setattr(checksums, "PIECE", 30)


def files(folder: Path, *sizes: int) -> list[Path]:
    paths = [folder / str(number) for number, _ in enumerate(sizes)]
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(os.urandom(size))
    return paths


def test_checksums_are_those_of_the_whole_files_in_their_order(tmp_path: Path) -> None:
    paths = files(tmp_path, 0, 1, 99, 100, 101, 1234, 0)
    found = list(checksums.summed(paths))
    assert [each.path for each in found] == paths
    assert [each.crc for each in found] == [zlib.crc32(path.read_bytes()) for path in paths]
    assert [each.state[2] for each in found] == [0, 1, 99, 100, 101, 1234, 0]


def test_one_file_is_summed_while_the_one_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = files(tmp_path, 50, 50, 50)
    begun = []
    of_part = checksums._of_part

    def noted(path: Path, start: int, left: int) -> int:
        begun.append(path)
        return of_part(path, start, left)

    monkeypatch.setattr(checksums, "_of_part", noted)
    found = checksums.summed(paths)
    next(found)
    until = time.monotonic() + 10
    while len(begun) < 2 and time.monotonic() < until:
        time.sleep(0.001)
    assert begun == paths[:2]
    found.close()  # type: ignore[attr-defined]


def test_who_stops_early_leaves_no_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    for _ in checksums.summed(files(tmp_path, 5000, 5000)):
        break
    assert threading.active_count() == before


def test_no_file_has_no_checksum() -> None:
    assert list(checksums.summed([])) == []
