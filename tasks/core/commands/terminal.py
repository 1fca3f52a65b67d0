"""Text for a terminal: colours where they are wanted, columns that line up in any script."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from .. import unheard
from ..errors import LoadError

COLOURS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "bold": 1, "faint": 2}
ESCAPES = r"\033\[[0-9;]*m"
# A line may end before a word, and before any character of Chinese, Japanese or Korean but a
# closing one.
WIDE, CLOSING = "\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uff60", "，。、；：！？）」』》"
PIECES = rf"\s*(?:[{WIDE}]|[^\s{WIDE}]+)[{CLOSING}]*"
# A column narrower than this is left to the terminal to break.
LEAST_ROOM = 20


def is_coloured(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that shows colours; see no-color.org."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and stream is not None and stream.isatty()


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """Return a text in a colour where the stream, stdout if none is given, shows colours."""
    if not text or not is_coloured(stream or sys.stdout):
        return text
    return f"\033[{COLOURS[colour]}m{text}\033[0m"


def columns() -> int | None:
    """Return how wide the terminal is; None where stdout is none and lines have no end."""
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    return shutil.get_terminal_size().columns if is_terminal else None


def width(text: str) -> int:
    """Return how many columns a text takes: Chinese characters two, combining marks none."""
    plain = re.sub(ESCAPES, "", text)
    return len(plain) if plain.isascii() else sum(map(_cells, plain))


def _cells(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def pad(text: str, wide: int) -> str:
    """Return a text filled up with blanks to so many columns."""
    return text + " " * (wide - width(text))


def wrap(text: str, wide: int) -> list[str]:
    """Return a text as lines of so many columns; a word that is longer than a line stays whole."""
    lines = [""]
    # The tables for all of Chinese, Japanese and Korean take milliseconds to make.
    for piece in re.findall(r"\s*\S+" if text.isascii() else PIECES, text):
        if width(lines[-1] + piece) > wide and lines[-1].strip():
            lines.append("")
        lines[-1] += piece if lines[-1] else piece.lstrip()
    return [line.rstrip() for line in lines]


def table(rows: Iterable[Sequence[str]], gap: int = 2, indent: int = 0) -> list[str]:
    """Return rows as lines of columns; on a terminal the last column is wrapped to fit."""
    cells = [tuple(row) for row in rows]
    if not cells:
        return []
    widths = [max(map(width, column)) for column in zip(*cells, strict=True)][:-1]
    before = indent + sum(widths) + gap * len(widths)
    room = (columns() or 0) - before
    lines = []
    for *firsts, last in cells:
        head = " " * indent + "".join(
            pad(cell, wide + gap) for cell, wide in zip(firsts, widths, strict=True)
        )
        for part in wrap(last, room) if room >= LEAST_ROOM else [last]:
            lines.append((head + part).rstrip())
            head = " " * before
    return lines


def write(lines: Iterable[str]) -> None:
    """Print lines; when nobody reads them any more, as with `| head`, end without a word.

    Raises:
        LoadError: they do not arrive, for another reason.
    """
    if sys.stdout is None:  # closed by whoever started us
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    # Only here: elsewhere a connection that breaks must not end us.
    before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        for line in lines:
            print(line)
        sys.stdout.flush()
    except OSError as error:
        raise _lost(error) from None
    finally:
        signal.signal(signal.SIGPIPE, before)
    if swallowed := unheard.lost():
        raise _lost(swallowed)


def failed(faults: Iterable[str]) -> int:
    """Say what could not be done, the same only once; return the command's exit status."""
    said = list(dict.fromkeys(faults))
    for fault in said:
        print(f"ERROR: {fault}", file=sys.stderr)
    return int(bool(said))


def _lost(error: OSError) -> LoadError:
    return LoadError([f"stdout: {error.strerror}; write it elsewhere"])


def write_json(value: Any) -> None:
    """Print a value for other programs."""
    write([json.dumps(value, indent=1, ensure_ascii=False)])
