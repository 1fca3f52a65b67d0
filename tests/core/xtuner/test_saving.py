"""What checkpoints hold, whose they are, and which is gone on from."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from tasks.core.xtuner import saving


def test_the_newest_checkpoint_is_the_one_with_the_highest_number(tmp_path: Path) -> None:
    for name in ("iter_8.pth", "iter_16.pth", "iter_24.pth.part", "iter_x.pth"):
        (tmp_path / name).write_bytes(b"")

    assert saving.newest(tmp_path) == tmp_path / "iter_16.pth"
    assert saving.newest(tmp_path / "empty") is None


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
