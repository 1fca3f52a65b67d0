"""Cut a dataset's files into pieces that can be read side by side, in bounded memory.

Part of the program convert.py, which runs inside the xtuner toolchain.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# A piece, and so an Arrow file, is made from about this many bytes.
PIECE = 32 << 20


@dataclass(frozen=True)
class Piece:
    """Whole lines of a file, or a whole file: one that is a JSON array, or one text."""

    number: int
    path: Path
    start: int
    end: int


def pieces(origin: Path, form: str) -> Iterator[Piece]:
    """Yield the pieces of all files that hold rows, in the order of the files' names.

    Those are .jsonl and .json, and with the form `text` also .txt, each one row.
    """
    number = 0
    texts = origin.glob("*.txt") if form == "text" else ()
    arrays = filter(is_array, origin.glob("*.json"))
    for path in sorted((*origin.glob("*.jsonl"), *arrays, *texts)):
        start, size = 0, path.stat().st_size
        with path.open("rb") as file:
            while start < size:
                end = size
                if path.suffix == ".jsonl" and start + PIECE < size:
                    file.seek(start + PIECE)
                    file.readline()
                    end = file.tell()
                yield Piece(number, path, start, end)
                number, start = number + 1, end


def is_array(path: Path) -> bool:
    """Return whether a .json file is a list of rows; others describe the dataset."""
    with path.open("rb") as file:
        return file.read(64).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def lines_before(piece: Piece) -> int:
    """Return the number, from 1, of a piece's first line in its file."""
    count, left = 1, piece.start
    with piece.path.open("rb") as file:
        while left and (block := file.read(min(left, 1 << 20))):
            count, left = count + block.count(b"\n"), left - len(block)
    return count


def known_as(path: Path) -> str:
    """Return the name to call a file by: the folder may hold links, people know their targets.

    It starts where this program does, as people's own paths do, if the file lies below.
    """
    found, here = path.resolve(), Path.cwd()
    return str(found.relative_to(here) if found.is_relative_to(here) else found)
