"""Read and write the headers of safetensors files; nothing in one is trusted before it is checked.

The format: eight bytes of header length, little-endian; the header, JSON; the tensors, without gaps
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Protocol

from ..errors import UserError
from .tensors import BYTES, Extent, Tensor, check_text

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
# The format's own limit: a longer header is refused by every reader.
MAX_HEADER = 100_000_000
METADATA = "__metadata__"


class Declared(Protocol):
    """What a header says of a tensor."""

    @property
    def name(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class File:
    """What a file holds: its tensors by name, in the order of their bytes, and its own notes."""

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def read(path: Path) -> File:
    """Return what a safetensors file holds.

    Raises:
        UserError: with path, and byte or tensor, when the file is not what its header says.
    """
    refuse_pointer(path)
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(MAX_HEADER, size - 8):
            raise UserError(
                f"{path}: byte 0: the header is said to take {length} bytes of {size}; "
                "the file is truncated or no safetensors file; fetch it again"
            )
        raw = file.read(length)
    try:
        header = json.loads(raw, object_pairs_hook=_no_twice)
        metadata = _notes(header.pop(METADATA, {}))
        check_text(*header, *metadata, *metadata.values())
        tensors, end = _tensors(path, 8 + length, header)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: byte 8: the header is broken ({error}); fetch it again") from None
    if 8 + length + end != size:
        raise UserError(
            f"{path}: byte {size}: the tensors end at byte {8 + length + end}, the file at {size}; "
            "it is truncated or damaged; fetch it again"
        )
    return File(tensors, metadata)


def header(tensors: Iterable[Declared], metadata: Mapping[str, str]) -> bytes:
    """Return the first bytes of a file, up to its first tensor."""
    content: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))}
    end = 0
    for tensor in tensors:
        start, end = end, end + prod(tensor.shape) * BYTES[tensor.dtype]
        content[tensor.name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    # Readers that map the file want the tensors aligned.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def refuse_pointer(path: Path) -> None:
    """Refuse what Git leaves in the place of a large file.

    Raises:
        UserError: the file is a Git-LFS pointer.
    """
    if is_pointer(path):
        raise UserError(
            f"{path}: a Git-LFS pointer, not the weights; run `git lfs pull` in {path.parent}"
        )


def is_pointer(path: Path) -> bool:
    """Return whether a file is what Git leaves in the place of a large one."""
    with path.open("rb") as file:
        return file.read(len(LFS_POINTER)) == LFS_POINTER


def _tensors(path: Path, start: int, content: Any) -> tuple[dict[str, Tensor], int]:
    """Return the tensors and the byte after the last, once they are found to lie side by side."""
    found, end = {}, 0
    for name, entry in sorted(content.items(), key=lambda item: _offsets(*item)):
        first, last = _offsets(name, entry)
        shape, dtype = _shape(name, entry.get("shape")), entry.get("dtype")
        if dtype not in BYTES:
            raise ValueError(f"tensor {name}: its dtype {dtype!r} is unknown")
        if first != end or last - first != prod(shape) * BYTES[dtype]:
            raise ValueError(f"tensor {name} does not fit its place")
        found[name] = Tensor(name, dtype, shape, (Extent(path, start + first, last - first),))
        end = last
    return found, end


def _offsets(name: str, entry: Any) -> tuple[int, int]:
    try:
        first, last = entry["data_offsets"]
    except (LookupError, TypeError, ValueError):
        raise ValueError(f"tensor {name}: no pair of data_offsets") from None
    if type(first) is not int or type(last) is not int or not 0 <= first <= last:
        raise ValueError(f"tensor {name}: data_offsets {first!r}, {last!r} are no range")
    return first, last


def _shape(name: str, shape: Any) -> tuple[int, ...]:
    if not isinstance(shape, list) or any(type(x) is not int or x < 0 for x in shape):
        raise ValueError(f"tensor {name}: {shape!r} is no shape")
    return tuple(shape)


def _notes(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict) or any(type(value) is not str for value in metadata.values()):
        raise ValueError(f"{METADATA} should hold text only")
    return metadata


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's pairs as a dict; of a tensor named twice, nobody knows which is meant."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"'{twice}' is named twice")
    return found
