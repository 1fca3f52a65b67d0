"""xtuner's log: which lines are records, and what they say."""

from __future__ import annotations

import math

import pytest

from tasks.core import trainlog

LINE = (
    "11/22 00:10:00 - mmengine - INFO - Iter(train) [ 10/250]  lr: 5.0003e-03  eta: 0:01:12  "
    "time: 0.3012  data_time: 0.0103  memory: 512  loss: 1.2345  tokens_per_sec: 4000"
)


def test_a_record_has_iteration_values_and_time_left() -> None:
    record = trainlog.parse(LINE)
    assert record is not None
    assert (record.iteration, record.total, record.left) == (10, 250, "0:01:12")
    assert record.values == {
        "lr": 5.0003e-03,
        "time": 0.3012,
        "data_time": 0.0103,
        "memory": 512,
        "loss": 1.2345,
        "tokens_per_sec": 4000,
    }
    assert record.line() == "10/250  loss 1.234  lr 5.00e-03  tokens/s 4000  left 0:01:12"


@pytest.mark.parametrize("left", ["0:00:00", "1 day, 2:03:04", "12 days, 2:03:04"])
def test_days_are_a_part_of_the_time_left(left: str) -> None:
    record = trainlog.parse(LINE.replace("0:01:12", left))
    assert record is not None
    assert record.left == left
    assert record.values["time"] == 0.3012


@pytest.mark.parametrize("word", ["nan", "inf"])
def test_a_loss_that_is_no_number_is_told_as_it_is(word: str) -> None:
    record = trainlog.parse(LINE.replace("1.2345", word))
    assert record is not None
    assert not math.isfinite(record.values["loss"])


@pytest.mark.parametrize(
    "line", ["", "Iter(val) [1/2]  loss: 1", "Iter(train) 10/250", "INFO - Saving checkpoint at 10"]
)
def test_other_lines_are_no_records(line: str) -> None:
    assert trainlog.parse(line) is None


def test_a_word_where_a_number_should_be_is_passed_over() -> None:
    record = trainlog.parse("Iter(train) [1/2]  lr: n/a  loss: 0.5")
    assert record is not None
    assert record.values == {"loss": 0.5}


def test_a_record_without_speed_still_has_a_line() -> None:
    record = trainlog.parse("Iter(train) [1/2]  loss: 0.5")
    assert record is not None
    assert record.line() == "1/2  loss 0.5"


def test_a_record_is_read_back_from_its_json_line() -> None:
    record = trainlog.parse(LINE)
    assert record is not None
    again = trainlog.from_json(record.json())
    assert again is not None
    assert (again.iteration, again.total, again.values) == (10, 250, record.values)


@pytest.mark.parametrize("line", ["", '{"iter": 1', "[]", "{}", "null"])
def test_a_json_line_cut_short_is_no_record(line: str) -> None:
    assert trainlog.from_json(line) is None
