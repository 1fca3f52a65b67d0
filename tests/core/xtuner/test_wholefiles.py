"""Checkpoints are written whole or not at all, and the oldest goes last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.core.xtuner import wholefiles


class Backend:
    """mmengine's, as far as it removes."""

    def join_path(self, *parts: str) -> str:
        return "/".join(parts)

    def remove(self, path: str) -> None:
        raise AssertionError("removed too early")


class Hook:
    """mmengine's CheckpointHook, which removes the oldest and then saves."""

    def __init__(self, folder: Path, save: Any) -> None:
        self.file_backend: Any = Backend()
        self.folder, self.save = folder, save

    def save_with_step(self, runner: Any, step: int, meta: Any) -> None:
        self.file_backend.remove(self.file_backend.join_path(str(self.folder), "iter_8.pth"))
        self.save()


def test_the_oldest_checkpoint_goes_after_the_new_one_is_there(tmp_path: Path) -> None:
    old, new = tmp_path / "iter_8.pth", tmp_path / "iter_16.pth"
    old.write_bytes(b"old")
    seen = []

    def save() -> None:
        seen.append(old.exists())
        new.write_bytes(b"new")

    hook = Hook(tmp_path, save)

    wholefiles.dropping_last(Hook.save_with_step)(hook, None, 16, meta={})

    assert seen == [True]
    assert not old.exists()
    assert isinstance(hook.file_backend, Backend)


def test_a_full_disk_costs_no_earlier_checkpoint(tmp_path: Path) -> None:
    old = tmp_path / "iter_8.pth"
    old.write_bytes(b"old")

    def fill() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        wholefiles.dropping_last(Hook.save_with_step)(Hook(tmp_path, fill), None, 16, {})

    assert old.read_bytes() == b"old"


def test_a_file_that_cannot_be_written_whole_does_not_get_its_name(tmp_path: Path) -> None:
    path = tmp_path / "iter_8.pth"
    wholefiles.put(None, b"first", path)
    (tmp_path / "iter_8.pth.part").mkdir()

    with pytest.raises(OSError, match="directory"):
        wholefiles.put(None, b"second", path)

    assert path.read_bytes() == b"first"
