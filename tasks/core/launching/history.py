"""The numbers that a training logged, over all its starts."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..engine import whole
from ..training import checkpoints, trainlog
from ..training.trainlog import Record


class History:
    """The records of a training, kept in its scratch folder while they come.

    A start that goes on from a checkpoint, or a log that is read a second time, tells iterations
    again: what comes later holds.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "history.jsonl"
        self.records = _earlier(self.path, folder)
        self._write()

    def add(self, line: str) -> Record | None:
        """Take in a line of the log; return the record in it, if there is one."""
        record = trainlog.parse(line)
        if record is None:
            return None
        told = len(self.records)
        while self.records and self.records[-1].iteration >= record.iteration:
            self.records.pop()
        self.records.append(record)
        if len(self.records) <= told:
            self._write()
        else:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(record.json())
        return record

    def copy(self, path: Path) -> None:
        """Leave a copy where people find it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.path, path)

    def _write(self) -> None:
        whole.write(self.path, "".join(record.json() for record in self.records))


def _earlier(path: Path, folder: Path) -> list[Record]:
    """Return what a killed training logged up to the checkpoint that it will go on from."""
    newest = checkpoints.newest(folder)
    if newest is None or not path.is_file():
        return []
    records = map(trainlog.from_json, path.read_text(encoding="utf-8").splitlines())
    limit = checkpoints.number(newest)
    return [record for record in records if record and record.iteration <= limit]
