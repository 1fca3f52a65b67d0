"""Read xtuner's log while it is written: one record for each `Iter(train)` line.

07/01 12:00:00 - mmengine - INFO - Iter(train) [ 10/250]  lr: 5.0e-03  eta: 0:01:12
time: 0.30  data_time: 0.01  loss: 1.2  tflops: 0.1  tokens_per_sec: 4000  grad_norm: 0.4
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LINE = re.compile(r"Iter\(train\) \[\s*(\d+)/(\d+)\]\s+(.*)")
FIELD = re.compile(r"(\w+): ((?:\d+ days?, )?\S+)")
# Above this share of its time a training that waits for data is told so; the first lines of a log,
# in which everything starts, say little.
MOST_WAITING = 0.2
FEWEST_RECORDS = 5


@dataclass(frozen=True)
class Record:
    """One logged iteration.

    Attributes:
        iteration, total: as `[iteration/total]`.
        values: lr, loss, time (seconds an iteration), data_time, tokens_per_sec, memory (MB), ...
        left: the time left as mmengine tells it, such as `0:01:12`.
    """

    iteration: int
    total: int
    values: Mapping[str, float]
    left: str

    @property
    def finite(self) -> dict[str, float]:
        """The values that are numbers; JSON has no word for the others."""
        return {name: value for name, value in self.values.items() if math.isfinite(value)}

    def line(self) -> str:
        """Return what a person wants to see of it."""
        parts = [f"{self.iteration}/{self.total}"]
        for name, form in (("loss", ".4g"), ("lr", ".2e"), ("tokens_per_sec", ".0f")):
            if name in self.values:
                parts.append(f"{name.replace('_per_sec', '/s')} {self.values[name]:{form}}")
        return "  ".join([*parts, *([f"left {self.left}"] if self.left else [])])

    def json(self) -> str:
        """Return the record as a JSON line."""
        return json.dumps({"iter": self.iteration, "total": self.total, **self.finite}) + "\n"


def from_json(line: str) -> Record | None:
    """Return the record in a JSON line, or None where a kill cut it short."""
    try:
        values = json.loads(line)
        return Record(values.pop("iter"), values.pop("total"), values, "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def parse(line: str) -> Record | None:
    """Return the record in a line of the log, or None where there is none."""
    found = LINE.search(line)
    if not found:
        return None
    values: dict[str, float] = {}
    left = ""
    for name, text in FIELD.findall(found[3]):
        if name == "eta":
            left = text
            continue
        try:
            values[name] = float(text)
        except ValueError:
            continue
    return Record(int(found[1]), int(found[2]), values, left)


def waiting(records: Sequence[Record]) -> float:
    """Return the share of the time in which training waited for its data; 0 where none is told."""
    timed = [r.values for r in records if "time" in r.values and "data_time" in r.values]
    whole = sum(values["time"] for values in timed)
    return sum(values["data_time"] for values in timed) / whole if whole > 0 else 0.0


def advice(records: Sequence[Record], workers: int) -> str:
    """Return what to change where training waits for data too long, else nothing.

    Args:
        workers: the recipe's `dataloader_num_workers`.
    """
    share = waiting(records)
    if len(records) < FEWEST_RECORDS or share <= MOST_WAITING:
        return ""
    cure = (
        f"raise train.dataloader_num_workers (now {workers}), or put the build folder on a local "
        "disk"
        if workers
        else "set train.dataloader_num_workers: 4, so that batches are made while it trains"
    )
    return f"{share:.0%} of the time is spent waiting for data: {cure}"
