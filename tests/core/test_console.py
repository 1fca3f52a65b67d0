"""The console: times and sizes as people read them, one line a result."""

from __future__ import annotations

import io
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.core import console
from tasks.core.engine.manifest import File, Manifest


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.44, "0.4 s"),
        (59.9, "59.9 s"),
        (60, "1:00"),
        (125.4, "2:05"),
        (119.7, "2:00"),
        (3600, "1:00:00"),
        (3725, "1:02:05"),
    ],
)
def test_a_duration_is_short(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (2_400_000, "2.4 MB"),
        (16_060_000_000, "16.1 GB"),
        (2_500_000_000_000, "2.5 TB"),
    ],
)
def test_a_size_is_short(count: int, text: str) -> None:
    assert console.size(count) == text


def test_a_summary_has_single_facts_then_files_and_bytes() -> None:
    facts = {"dtype": "F16", "loss": 0.123456, "content": "sha256:x", "tensors": {"a": 1}}
    receipt = Manifest("m", "merge", "k", {}, (File("a", 10, "d"), File("b", 5, "d")), facts)
    assert console.summary(receipt) == "dtype F16, loss 0.1235, 2 files, 15 B"


def test_a_digest_is_cut_in_a_summary() -> None:
    receipt = Manifest(
        "m", "image", "k", {}, (File("a", 1, "d"),), {"digest": f"sha256:{'a' * 64}"}
    )
    assert console.summary(receipt) == "digest sha256:aaaaaaaaaaaa, 1 file, 1 B"


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_line_at_times_where_lines_stay(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    console.start("train:m")
    for second in range(1, 150):
        now = 1000.0 + second
        console.status(f"after {second} s")
    assert capsys.readouterr().out == "   after 60 s\n   after 120 s\n"


def test_progress_shows_in_place_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console.start("train:m")
    console.status("half")
    console.clear()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    console.status("half")
    console.clear()
    assert screen.getvalue() == "\r\033[K   half\r\033[K"


def test_progress_of_a_pool_shows_in_place_where_its_task_runs_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    console.start("base:m")
    monkeypatch.setattr(sys, "stdout", screen := Screen())
    with ThreadPoolExecutor(1) as pool:
        pool.submit(console.status, "half").result()
    assert screen.getvalue() == "\r\033[K   half"


def test_a_pool_speaks_for_the_task_that_made_it(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        console.start("base:m")
        with ThreadPoolExecutor(1, initializer=console.same_task()) as pool:
            pool.submit(console.say, "   half").result()

    one_of_several = threading.Thread(target=work)
    one_of_several.start()
    one_of_several.join()
    console.start("")
    assert capsys.readouterr().out == "   base:m: half\n"


def test_stdout_is_left_to_other_programs_where_they_read_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    console.start("check")
    monkeypatch.setattr(console, "SILENCE", 0.0)
    with console.aside(True):
        console.status("reading")
        console.say("thrown away")
    console.say("all is well")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("all is well\n", "   reading\nthrown away\n")
