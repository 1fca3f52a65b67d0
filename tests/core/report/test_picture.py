"""The pipeline as a picture."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from tasks.core.report import picture
from tasks.core.report.picture import Box
from tasks.core.report.state import FRESH, MISSING, STALE, Step

LINES = {
    "base": [],
    "data": [],
    "convert": ["base", "data"],
    "config": [],
    "train": ["base", "convert", "config"],
    "merge": ["base", "train"],
    "image": ["merge"],
    "notes": [],
}


def boxes() -> list[Box]:
    states = [FRESH, STALE, MISSING]
    return [
        Box(Step(name, "", states[at % 3], (), before, None, None), "1.0 s")
        for at, (name, before) in enumerate(LINES.items())
    ]


def test_a_line_that_others_stand_for_is_not_drawn() -> None:
    assert picture.reduced("train", boxes()) == ["convert", "config"]
    assert picture.reduced("merge", boxes()) == ["train"]


def test_a_stage_comes_after_what_it_is_made_from_and_close_to_what_is_made_from_it() -> None:
    edges = {name: picture.reduced(name, boxes()) for name in LINES}

    assert picture.arrange(edges) == [
        ["base", "data", "notes"],
        ["convert", "config"],
        ["train"],
        ["merge"],
        ["image"],
    ]


@pytest.mark.parametrize("down", [True, False])
def test_boxes_do_not_overlap_and_lie_inside(down: bool) -> None:
    drawn = ET.fromstring(picture.draw(boxes(), down=down))
    left, top, width, height = map(float, drawn.attrib["viewBox"].split())
    places = [(float(r.attrib["x"]), float(r.attrib["y"])) for r in drawn.iter("rect")]

    assert len(places) == len(LINES)
    for at, (x, y) in enumerate(places):
        assert left <= x <= left + width - picture.WIDTH
        assert top <= y <= top + height - picture.HEIGHT
        assert all(
            abs(x - other) >= picture.WIDTH or abs(y - below) >= picture.HEIGHT
            for other, below in places[:at]
        )


def test_states_are_told_by_more_than_colour() -> None:
    drawn = picture.draw(boxes(), down=False)

    assert re.findall(r"([✓!–]) (?:base|data|convert)<", drawn) == ["✓", "!", "–"]
    assert "base: current. data: stale. convert from base and data: not built." in drawn
