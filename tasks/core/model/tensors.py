"""Tensors where they lie: in which file, from which byte on, of which type and shape.

Every format of weights is read into these, so that whoever moves or adds numbers sees one form.
Nothing is mapped into memory: a file that is cut short while it is read is an error, not a SIGBUS.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path

from ..errors import UserError
from . import ahead

# The element types, by safetensors' names, and the bytes of one element.
BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2,
    "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Extent:
    """A run of bytes in a file."""

    path: Path
    start: int
    length: int


def check_text(*texts: str) -> None:
    """Refuse halves of characters, which JSON and pickles can hold and no file can.

    Raises:
        ValueError: a text that cannot be written.
    """
    for text in texts:
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValueError(f"{text!a} is no text") from None


def rows(shape: tuple[int, ...]) -> int:
    """Return how many rows there are, of however many matrices; a scalar is a row of its own."""
    return prod(shape[:-1] or shape)


@dataclass(frozen=True)
class Tensor:
    """A tensor in row-major order; its bytes are those of its extents, one after the other."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    extents: tuple[Extent, ...]

    @property
    def elements(self) -> int:
        """How many elements it has."""
        return prod(self.shape)

    @property
    def size(self) -> int:
        """How many bytes it takes."""
        return self.elements * BYTES[self.dtype]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return rows(self.shape)

    @property
    def row_size(self) -> int:
        """How many bytes a row takes."""
        return self.size // self.rows if self.rows else 0

    @property
    def where(self) -> str:
        """The file and the tensor, for messages."""
        return f"{self.extents[0].path}: {self.name}" if self.extents else self.name


def read(tensor: Tensor, first: int = 0, last: int | None = None) -> bytearray:
    """Return the bytes of a tensor's rows from `first` to before `last`.

    Raises:
        UserError: the file is shorter than it was said to be.
    """
    last = tensor.rows if last is None else last
    buffer = bytearray((last - first) * tensor.row_size)
    read_into(tensor, first, last, memoryview(buffer))
    return buffer


def read_into(tensor: Tensor, first: int, last: int, room: memoryview) -> None:
    """Fill memory with the bytes of a tensor's rows from `first` to before `last`.

    Raises:
        UserError: the file is shorter than it was said to be.
    """
    start, end, at = first * tensor.row_size, last * tensor.row_size, 0
    for extent in tensor.extents:
        before, after = max(start, at), min(end, at + extent.length)
        if before < after:
            _fill(room[before - start : after - start], extent, before - at, tensor.name)
        at += extent.length


def _fill(room: memoryview, extent: Extent, offset: int, name: str) -> None:
    start = extent.start + offset
    done = ahead.read(extent.path, start, room)
    if done < len(room):
        raise UserError(
            f"{extent.path}: {name}: the file ends at byte {start + done}, inside this tensor; "
            "it is truncated; fetch it again"
        )
