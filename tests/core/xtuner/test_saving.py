"""How checkpoints are written inside the toolchain: whole or not at all, the oldest goes last."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from tasks.core.xtuner import saving


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


def test_the_newest_checkpoint_is_the_one_with_the_highest_number(tmp_path: Path) -> None:
    for name in ("iter_8.pth", "iter_16.pth", "iter_24.pth.part", "iter_x.pth"):
        (tmp_path / name).write_bytes(b"")

    assert saving.newest(tmp_path) == tmp_path / "iter_16.pth"
    assert saving.newest(tmp_path / "empty") is None


def test_the_oldest_checkpoint_goes_after_the_new_one_is_there(tmp_path: Path) -> None:
    old, new = tmp_path / "iter_8.pth", tmp_path / "iter_16.pth"
    old.write_bytes(b"old")
    seen = []

    def save() -> None:
        seen.append(old.exists())
        new.write_bytes(b"new")

    hook = Hook(tmp_path, save)

    saving.dropping_last(Hook.save_with_step)(hook, None, 16, meta={})

    assert seen == [True]
    assert not old.exists()
    assert isinstance(hook.file_backend, Backend)


def test_a_full_disk_costs_no_earlier_checkpoint(tmp_path: Path) -> None:
    old = tmp_path / "iter_8.pth"
    old.write_bytes(b"old")

    def fill() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        saving.dropping_last(Hook.save_with_step)(Hook(tmp_path, fill), None, 16, {})

    assert old.read_bytes() == b"old"


def test_a_file_that_cannot_be_written_whole_does_not_get_its_name(tmp_path: Path) -> None:
    path = tmp_path / "iter_8.pth"
    saving.put(None, b"first", path)
    (tmp_path / "iter_8.pth.part").mkdir()

    with pytest.raises(OSError, match="directory"):
        saving.put(None, b"second", path)

    assert path.read_bytes() == b"first"


def test_another_trainings_checkpoint_is_not_gone_on_from() -> None:
    saving.check_owner({"meta": {"owner": ".train-a"}}, ".train-a", "iter_8.pth")

    with pytest.raises(SystemExit, match=r"iter_8\.pth was saved by \.train-b, not by \.train-a"):
        saving.check_owner({"meta": {"owner": ".train-b"}}, ".train-a", "iter_8.pth")
    with pytest.raises(SystemExit, match=r"saved by another program, .* take it out of there"):
        saving.check_owner({"meta": {}}, ".train-a", "iter_8.pth")


def test_only_plain_values_are_saved() -> None:
    class ConfigDict(dict[str, Any]):
        pass

    state = saving.unshared({"a": ConfigDict(b=OrderedDict(c=[1, (2, "x")]))})

    assert state == {"a": {"b": {"c": [1, (2, "x")]}}}
    assert type(state["a"]) is dict
    assert type(state["a"]["b"]) is OrderedDict


def test_a_checkpoint_in_the_middle_of_a_step_is_taken_only_where_there_is_no_other(
    tmp_path: Path,
) -> None:
    for number in (4, 6):
        (tmp_path / f"iter_{number}.pth").touch()
    found = [saving.newest(tmp_path, every) for every in (1, 4, 5)]
    assert [path.name for path in found if path] == ["iter_6.pth", "iter_4.pth", "iter_6.pth"]
