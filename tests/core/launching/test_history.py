"""The numbers of a training over all its starts."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from tasks.core.launching.history import History

LINE = "- mmengine - INFO - Iter(train) [{}/40]  lr: 1e-3  eta: 0:00:01  loss: {}"


def told(folder: Path) -> list[tuple[int, float]]:
    lines = (folder / "history.jsonl").read_text().splitlines()
    return [(record["iter"], record["loss"]) for record in map(json.loads, lines)]


def test_records_are_written_as_they_come(tmp_path: Path) -> None:
    history = History(tmp_path)
    for number in (10, 20):
        assert history.add(LINE.format(number, 1.5))
    assert history.add("no record") is None

    assert told(tmp_path) == [(10, 1.5), (20, 1.5)]


def test_a_log_read_again_tells_nothing_twice(tmp_path: Path) -> None:
    history = History(tmp_path)
    for loss in (1.0, 2.0):
        for number in (10, 20, 30):
            history.add(LINE.format(number, loss))

    assert told(tmp_path) == [(10, 2.0), (20, 2.0), (30, 2.0)]


def test_a_new_start_forgets_what_came_after_its_checkpoint(tmp_path: Path) -> None:
    first = History(tmp_path)
    for number in (10, 20, 30):
        first.add(LINE.format(number, 1.0))
    with zipfile.ZipFile(tmp_path / "iter_20.pth", "w") as file:
        file.writestr("data.pkl", b"")

    assert [record.iteration for record in History(tmp_path).records] == [10, 20]
    assert told(tmp_path) == [(10, 1.0), (20, 1.0)]


def test_a_start_without_a_checkpoint_begins_anew(tmp_path: Path) -> None:
    History(tmp_path).add(LINE.format(10, 1.0))

    assert History(tmp_path).records == []
