"""Judge a folder of model files before anything is built on it: whole, readable, really weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import UserError

LFS_POINTER = b"version https://git-lfs.github.com/spec/v1"
# The format's own limit: a longer header is refused by every reader.
MAX_HEADER = 100_000_000
BYTES = {
    "F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2,
    "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Model:
    """What a folder of model files turned out to hold.

    Attributes:
        architecture: the first of config.json's.
        tensors: how many tensors the safetensors files hold; 0 where the weights are pickles.
        parameters: the elements of all tensors.
        dtype: the type of most elements, by safetensors' names.
    """

    architecture: str
    tensors: int
    parameters: int
    dtype: str


def inspect(folder: Path) -> Model:
    """Return what a model folder holds.

    Raises:
        UserError: no config.json, Git-LFS pointers in the place of weights, a truncated file, no
            weights at all.
    """
    architecture = _architecture(folder)
    shards = _shards(folder)
    counts: dict[str, int] = {}
    tensors = 0
    for path in shards:
        if path.suffix == ".safetensors":
            header = read_header(path)
            tensors += len(header)
            for entry in header.values():
                counts[entry["dtype"]] = counts.get(entry["dtype"], 0) + elements(entry)
    dtype = max(counts, key=lambda name: counts[name], default="unknown")
    return Model(architecture, tensors, sum(counts.values()), dtype)


def read_header(path: Path) -> dict[str, Any]:
    """Return the tensors that a safetensors file declares, checked against the file's length.

    The format: eight bytes of header length, little-endian; the header, JSON; the tensors, without
    gaps (https://github.com/huggingface/safetensors#format).

    Raises:
        UserError: with path and byte, when the file is not what its header says.
    """
    _refuse_pointer(path)
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
        header = json.loads(raw)
        header.pop("__metadata__", None)
        end = _end_of_tensors(header)
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path}: byte 8: the header is broken ({error}); fetch it again") from None
    if 8 + length + end != size:
        raise UserError(
            f"{path}: byte {size}: the tensors end at byte {8 + length + end}, the file at {size}; "
            "it is truncated or damaged; fetch it again"
        )
    return dict(header)


def elements(entry: dict[str, Any]) -> int:
    """Return how many elements a tensor has."""
    count = 1
    for extent in entry["shape"]:
        count *= extent
    return count


def _end_of_tensors(header: dict[str, Any]) -> int:
    """Return the byte after the last tensor, once they are found to lie side by side."""
    end = 0
    for name, entry in sorted(header.items(), key=lambda item: tuple(item[1]["data_offsets"])):
        first, last = entry["data_offsets"]
        if first != end or last - first != elements(entry) * BYTES[entry["dtype"]]:
            raise ValueError(f"tensor {name} does not fit its place")
        end = last
    return end


def _architecture(folder: Path) -> str:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        return str(config["architectures"][0])
    except FileNotFoundError:
        raise UserError(
            f"{folder}: no config.json; is this the folder of a Hugging Face model?"
        ) from None
    except (ValueError, LookupError, TypeError) as error:
        raise UserError(f"{path}: names no architecture ({error}); fetch the file again") from None


def _shards(folder: Path) -> list[Path]:
    """Return the files that hold the weights: all that an index names, or the single ones."""
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        index = folder / f"{stem}.{suffix}.index.json"
        if index.exists():
            return _indexed(index)
        found = sorted(folder.glob(f"*.{suffix}"))
        if found:
            for path in found:
                _refuse_pointer(path)
            return found
    raise UserError(f"{folder}: no weights, neither *.safetensors nor *.bin; fetch the model again")


def _indexed(index: Path) -> list[Path]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, LookupError, AttributeError, TypeError) as error:
        raise UserError(f"{index}: no index of weights ({error}); fetch it again") from None
    for name in names:
        if "/" in name or name in ("", ".", ".."):
            raise UserError(f"{index}: weight_map: '{name}' is no file of this folder")
        if not (index.parent / name).is_file():
            raise UserError(f"{index.parent / name}: missing, but {index.name} names it; fetch it")
        _refuse_pointer(index.parent / name)
    return [index.parent / name for name in names]


def _refuse_pointer(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(len(LFS_POINTER)) == LFS_POINTER:
            raise UserError(
                f"{path}: a Git-LFS pointer, not the weights; run `git lfs pull` in {path.parent}"
            )
