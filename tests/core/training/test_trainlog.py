"""xtuner's log: which lines are records, and what they say."""

from __future__ import annotations

import json
import math

import pytest

from tasks.core.training import trainlog
from tasks.core.training.trainlog import Record

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


@pytest.mark.parametrize("word", ["nan", "inf", "-inf"])
def test_a_json_line_is_json_for_every_program(word: str) -> None:
    record = trainlog.parse(LINE.replace("1.2345", word))
    assert record is not None
    told = json.loads(record.json(), parse_constant=pytest.fail)
    assert "loss" not in told
    assert told["lr"] == 5.0003e-03


@pytest.mark.parametrize("line", ["", '{"iter": 1', "[]", "{}", "null"])
def test_a_json_line_cut_short_is_no_record(line: str) -> None:
    assert trainlog.from_json(line) is None


def logged(*times: tuple[float, float]) -> list[Record]:
    return [
        Record(n, len(times), {"time": whole, "data_time": data}, "")
        for n, (whole, data) in enumerate(times, 1)
    ]


# 81.5 s an iteration, of which 45.8 s wait for data: the document's own log.
DOCUMENT = [(81.4554, 45.8042)] * 5


@pytest.mark.parametrize(
    ("times", "workers", "said"),
    [
        (DOCUMENT, 0, "56% of the time is spent waiting for data: set train.dataloader_num_worker"),
        (DOCUMENT, 2, "56% of the time is spent waiting for data: raise train.dataloader_num_work"),
        (DOCUMENT[:4], 0, ""),
        ([(10, 2)] * 9, 0, ""),
        ([(10, 9), *[(10, 0.1)] * 8], 0, ""),
        ([(0, 0)] * 9, 0, ""),
        ([], 0, ""),
    ],
)
def test_a_training_that_waits_for_data_is_told_what_to_change(
    times: list[tuple[float, float]], workers: int, said: str
) -> None:
    found = trainlog.advice(logged(*times), workers)
    assert found.startswith(said)
    assert bool(found) is bool(said)


def test_lines_without_times_say_nothing_of_waiting() -> None:
    assert trainlog.waiting([Record(1, 2, {"loss": 1.0}, ""), *logged((4, 1))]) == 0.25
