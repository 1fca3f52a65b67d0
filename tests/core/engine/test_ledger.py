"""The ledger: one line a stage run, whole even when many write."""

from __future__ import annotations

import json
import threading

from tasks.core.engine import ledger
from tests.conftest import Project


def test_a_line_says_what_ran_when_and_where(project: Project) -> None:
    project.build.mkdir()
    ledger.note("m", "base", key="sha256:1", seconds=0.5)
    line = json.loads((project.build / "ledger.jsonl").read_text())
    assert line["model"] == "m"
    assert line["seconds"] == 0.5
    assert line["time"].endswith("Z")
    assert line["host"]


def test_lines_of_many_writers_never_mix(project: Project) -> None:
    project.build.mkdir()
    long = "ä" * 2000

    def write(number: int) -> None:
        for _ in range(20):
            ledger.note("m", "base", number=number, text=long)

    writers = [threading.Thread(target=write, args=[number]) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    lines = (project.build / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == [long] * 80
