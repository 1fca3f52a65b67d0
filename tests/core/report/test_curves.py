"""What training logged, thinned."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core import paths
from tasks.core.report import charts, curves, training
from tests.conftest import Project


def test_lines_that_are_broken_and_numbers_that_are_none_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(
        '{"iter": 1, "loss": 2}\n[]\n{"iter": 2, "loss": NaN, "lr": 0.1}\n{"iter": 3, "lo'
    )

    assert curves.read(path) == {"loss": [(1, 2)], "lr": [(2, 0.1)]}


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=700), st.integers(1, 50))
def test_thinning_loses_no_peak(numbers: list[float], most: int) -> None:
    values = list(enumerate(numbers))

    points = curves.thin(values, most)

    assert len(points) <= most
    assert min(point.low for point in points) == min(numbers)
    assert max(point.high for point in points) == max(numbers)
    assert all(point.low <= point.high for point in points)


def test_a_training_that_goes_on_is_shown_first_and_a_restored_one_has_its_losses(
    project: Project,
) -> None:
    folder = project.result("m", "train", {"losses.jsonl": b""})
    assert curves.source("m") == folder / "losses.jsonl"

    log = paths.log("m", "train").with_suffix(".jsonl")
    log.parent.mkdir()
    log.touch()
    assert curves.source("m") == log

    running = project.build / "m" / ".train-0123" / "history.jsonl"
    running.parent.mkdir()
    running.touch()
    assert curves.source("m") == running


def test_there_may_be_nothing_to_show(project: Project) -> None:
    assert curves.source("m") is None


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.5, 1.0]),
        (0, 0.003, [0, 0.001, 0.002, 0.003]),
        (10, 200, [50, 100, 150, 200]),
        (5, 5, [5]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert charts.ticks(low, high) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0291, "0.0291"), (3e-5, "3e-05"), (1620, "1.62k"), (2_400_000, "2.4M"), (0, "0")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert charts.number(value) == text


@pytest.mark.parametrize("zero", [True, False])
@pytest.mark.parametrize("numbers", [[1.0], [0.0, 0.0], [-1.0, 4.0], [1e-9, 1e9], [3.0] * 1000])
def test_every_curve_can_be_drawn_and_heard(numbers: list[float], zero: bool) -> None:
    drawn = charts.line("Loss", curves.curve(list(enumerate(numbers))), zero=zero)

    assert 'role="img"' in drawn
    assert f'aria-label="Loss: {charts.number(numbers[0])} at iteration 0' in drawn
    assert "nan" not in drawn


def test_the_checkpoint_that_was_taken_is_marked() -> None:
    drawn = training.checkpoints(
        {"checkpoint": 200, "scores": {"iter_100": 0.5, "iter_200": 0.97, "iter_300": 0.9}}
    )

    assert 'aria-label="Valid tool calls by checkpoint: 100: 0.5, 200: 0.97, 300: 0.9"' in drawn
    assert drawn.count("marked") == 1
    assert drawn.index("marked") > drawn.index(">100<")
