"""The numbers that training logs, thinned to what a picture can show."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import paths

# More points than this are not seen on a page.
MOST = 240

# What the page shows of a logged iteration.
SHOWN = ("loss", "lr", "tokens_per_sec", "time", "data_time", "memory")

Values = Sequence[tuple[int, float]]


@dataclass(frozen=True)
class Point:
    """Neighbouring values: where, their least, their mean, their greatest."""

    at: int
    low: float
    mean: float
    high: float


@dataclass(frozen=True)
class Curve:
    """A number over the iterations.

    Attributes:
        points: at most MOST, each standing for neighbours.
        first, last, least, greatest: (iteration, value) of the values themselves.
    """

    points: Sequence[Point]
    first: tuple[int, float]
    last: tuple[int, float]
    least: tuple[int, float]
    greatest: tuple[int, float]


def source(model: str) -> Path | None:
    """Return the file that has the numbers: of a training that goes on, of the last, or its result.

    A result that came from the store has no log, only its losses.
    """
    now = sorted(paths.build().glob(f"{model}/.train-*/history.jsonl"))
    places = [*now, paths.log(model, "train").with_suffix(".jsonl")]
    return next(
        (p for p in [*places, paths.output(model, "train") / "losses.jsonl"] if p.is_file()), None
    )


def read(path: Path) -> dict[str, list[tuple[int, float]]]:
    """Return each number's values over the iterations; a line that a kill cut is passed over."""
    found: dict[str, list[tuple[int, float]]] = {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                row = json.loads(line)
                at = int(row["iter"])
            except (ValueError, KeyError, TypeError):
                continue
            for name in SHOWN:
                value = row.get(name)
                if isinstance(value, int | float) and math.isfinite(value):
                    found.setdefault(name, []).append((at, value))
    return found


def curve(values: Values) -> Curve:
    """Return a curve of one value or more."""
    by_value = sorted((values[0], values[-1], *_extremes(values)), key=lambda each: each[1])
    return Curve(thin(values), values[0], values[-1], by_value[0], by_value[-1])


def thin(values: Values, most: int = MOST) -> list[Point]:
    """Return at most so many points, each for as many neighbours; no peak is lost in them."""
    size = max(1, math.ceil(len(values) / most))
    found = []
    for start in range(0, len(values), size):
        near = values[start : start + size]
        numbers = [value for _, value in near]
        at = near[len(near) // 2][0]
        found.append(Point(at, min(numbers), sum(numbers) / len(numbers), max(numbers)))
    return found


def summary(found: Mapping[str, Values]) -> dict[str, float]:
    """Return what training came to: seconds and tokens, where they are logged."""
    told: dict[str, float] = {}
    if rates := [value for _, value in found.get("tokens_per_sec", ())]:
        told["tokens_per_sec"] = sum(rates) / len(rates)
    if times := [value for _, value in found.get("time", ())]:
        told["seconds_per_iteration"] = sum(times) / len(times)
        waits = [value for _, value in found.get("data_time", ())]
        told["waiting"] = sum(waits) / sum(times) if sum(times) else 0.0
    if memory := [value for _, value in found.get("memory", ())]:
        told["memory"] = max(memory) * 1e6
    return told


def _extremes(values: Values) -> tuple[tuple[int, float], tuple[int, float]]:
    return min(values, key=lambda each: each[1]), max(values, key=lambda each: each[1])
