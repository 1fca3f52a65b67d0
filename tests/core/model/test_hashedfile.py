"""Files that are hashed while they are written."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from tasks.core.engine import digests
from tasks.core.model import ahead, hashedfile
from tasks.core.model.ahead import Job
from tasks.core.model.hashedfile import HashedFile

REAL_OPEN, REAL_WRITE = os.open, os.write


@pytest.fixture(params=["past the page cache", "through it", "refused late"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write in each way, whatever this machine's file system can do."""

    def refuse(path: Any, flags: int, *rest: Any) -> int:
        if flags & os.O_DIRECT and request.param == "through it":
            raise OSError(errno.EINVAL, "Invalid argument")
        return REAL_OPEN(path, flags, *rest)

    def refuse_late(file: int, data: memoryview) -> int:
        if fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT and request.param == "refused late":
            raise OSError(errno.EINVAL, "Invalid argument")
        return REAL_WRITE(file, data)

    monkeypatch.setattr(os, "write", refuse_late)
    monkeypatch.setattr(os, "open", refuse)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "sizes", [[], [0], [5], [4096], [8191, 1], [8192], [100, 20_000, 0, 4096, 1], [8192] * 20]
)
@pytest.mark.parametrize("filled", [0, 1, 9])
def test_what_is_written_is_there_and_its_digest_known(
    tmp_path: Path, sizes: list[int], filled: int
) -> None:
    pieces = [os.urandom(size) for size in sizes]
    with HashedFile(tmp_path / "f") as file:
        for piece in pieces[filled:]:
            file.write(piece)
        for room in ahead.filled(map(job, pieces[:filled]), file.lend):
            file.write(room)
        assert file.tell() == sum(sizes)
    pieces = pieces[filled:] + pieces[:filled]
    assert (tmp_path / "f").read_bytes() == b"".join(pieces)
    assert file.digest == digests.of_bytes(b"".join(pieces))


def job(content: bytes) -> Job:
    def fill(room: memoryview) -> None:
        room[:] = content

    return Job(len(content), fill)


def test_memory_does_not_grow_with_what_is_written(tmp_path: Path) -> None:
    rooms = set()

    def fill(room: memoryview) -> None:
        rooms.add(id(room.obj))

    with HashedFile(tmp_path / "f") as file:
        for room in ahead.filled([Job(9000, fill)] * 100, file.lend):
            file.write(room)
    assert len(rooms) <= hashedfile.ROOMS


def test_memory_may_be_used_again_at_once(tmp_path: Path) -> None:
    room = bytearray(1 << 20)
    with HashedFile(tmp_path / "f") as file:
        for number in range(12):
            room[:] = bytes([number]) * len(room)
            file.write(memoryview(room))
    expected = b"".join(bytes([number]) * len(room) for number in range(12))
    assert (tmp_path / "f").read_bytes() == expected
    assert file.digest == digests.of_bytes(expected)


def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, data: memoryview) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hashedfile, "_put", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path / "f", bytes(2 * hashedfile.ALIGNED))


def write(path: Path, content: bytes) -> None:
    with HashedFile(path) as file:
        file.write(content)
