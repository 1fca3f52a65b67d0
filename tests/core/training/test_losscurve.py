"""The picture of a training: sound XML, the same bytes every time, small whatever the log."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import pytest

from tasks.core.training import losscurve
from tasks.core.training.trainlog import Record

SPACE = "{http://www.w3.org/2000/svg}"


def records(*losses: float, rate: float = 1e-4) -> list[Record]:
    total = len(losses) * 10
    return [
        Record(10 * n, total, {"loss": loss, "lr": rate}, "") for n, loss in enumerate(losses, 1)
    ]


def line(picture: str, kind: str) -> list[tuple[float, float]]:
    tree = ElementTree.fromstring(picture)
    found = next(each for each in tree.iter(f"{SPACE}polyline") if each.get("class") == kind)
    return [tuple(map(float, pair.split(","))) for pair in str(found.get("points")).split()]  # type: ignore[misc]


def test_a_falling_loss_falls_in_the_picture_from_left_to_right() -> None:
    points = line(losscurve.svg(records(4.0, 2.0, 1.0)), "loss")
    across, down = zip(*points, strict=True)
    assert list(across) == sorted(across)
    assert list(down) == sorted(down)
    # Twice the value is twice as high above the axis.
    axis = losscurve.HEIGHT - losscurve.BOTTOM
    assert axis - down[0] == pytest.approx(2 * (axis - down[1]), abs=0.2)


def test_the_picture_says_what_it_shows_to_who_cannot_see_it() -> None:
    tree = ElementTree.fromstring(losscurve.svg(records(4.0, 2.0, 0.5)))
    assert tree.get("role") == "img"
    assert tree.findtext(f"{SPACE}title") == "Loss 4 to 0.5 in 30 iterations"


def test_a_long_log_gives_a_small_picture_that_still_ends_at_its_end() -> None:
    picture = losscurve.svg(records(*(1 / n for n in range(1, 100_001))))
    assert len(picture) < 20_000
    assert line(picture, "loss")[-1][0] == losscurve.WIDTH - losscurve.RIGHT


def test_equal_records_give_equal_bytes() -> None:
    assert losscurve.svg(records(3.0, 0.1)) == losscurve.svg(records(3.0, 0.1))


@pytest.mark.parametrize(
    "losses", [(), (1.0,), (0.0, 0.0), (math.nan, math.inf), (1.0, math.nan, 0.5), (-1.0, -2.0)]
)
def test_odd_losses_are_still_a_picture(losses: tuple[float, ...]) -> None:
    for rate in (0.0, 1e-4, math.nan):
        picture = losscurve.svg(records(*losses, rate=rate))
        ElementTree.fromstring(picture)
        assert not re.search(r"\b(nan|inf)\b", picture)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0, 1.3, [0, 0.5, 1.0]),
        (0, 4296, [0, 1000, 2000, 3000, 4000]),
        (0, 2e-4, [0, 5e-5, 1e-4, 1.5e-4, 2e-4]),
    ],
)
def test_the_axes_have_round_numbers(low: float, high: float, ticks: list[float]) -> None:
    assert losscurve._ticks(low, high) == pytest.approx(ticks)
