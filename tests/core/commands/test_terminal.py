"""Columns, widths and colours."""

from __future__ import annotations

import io
import socket
import sys

import pytest

from tasks.core.commands import terminal


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("model", 5),
        ("模型", 4),
        ("模型 a", 6),
        ("e\u0301", 1),
        ("ｆ", 2),
        ("\033[31mred\033[0m", 3),
    ],
)
def test_a_width_is_what_a_terminal_shows(text: str, columns: int) -> None:
    assert terminal.width(text) == columns


def test_columns_line_up_in_chinese_and_english() -> None:
    rows = [("模型", "2.4 MB"), ("model", "16 GB")]

    assert terminal.table(rows) == ["模型   2.4 MB", "model  16 GB"]


@pytest.mark.parametrize(
    ("text", "columns", "lines"),
    [
        ("one two three", 7, ["one two", "three"]),
        ("模型中心", 5, ["模型", "中心"]),
        ("接入 model 中心", 10, ["接入 model", "中心"]),
        ("接入模型。", 8, ["接入模", "型。"]),
        ("sha256:0123456789", 6, ["sha256:0123456789"]),
        ("", 6, [""]),
    ],
)
def test_a_wrapped_text_fits_and_words_stay_whole(
    text: str, columns: int, lines: list[str]
) -> None:
    assert terminal.wrap(text, columns) == lines


def test_lines_are_wrapped_only_for_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("name", "模型 " * 20), ("other", "word " * 20)]
    assert len(terminal.table(rows)) == 2

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "80")
    lines = terminal.table(rows)
    assert len(lines) == 4
    assert all(terminal.width(line) <= 80 for line in lines)
    assert lines[1].startswith(" " * 7)


@pytest.mark.parametrize(
    ("stream", "environ", "coloured"),
    [
        (Terminal(), {}, True),
        (io.StringIO(), {}, False),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": ""}, True),
        (Terminal(), {"TERM": "dumb"}, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, environ: dict[str, str], coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert (terminal.paint("a", "red", stream) != "a") is coloured


def test_after_writing_a_connection_that_breaks_ends_nobody() -> None:
    terminal.write(["told"])
    one, other = socket.socketpair()
    other.close()
    with one, pytest.raises(BrokenPipeError):
        one.sendall(b"x")
