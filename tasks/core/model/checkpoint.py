"""Read torch's checkpoints without torch, and without running what is in them.

A checkpoint is a zip of stored entries: `<name>/data.pkl`, a pickle of everything but the numbers,
and `<name>/data/<key>`, the numbers of one storage each (torch/serialization.py).
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from .safetensors import refuse_pointer
from .tensors import BYTES, Extent, Tensor, check_text
from .unpickling import Storage, Unpickler

LOCAL_HEADER = struct.Struct("<26xHH")


def load(path: Path) -> Any:
    """Return the content of a checkpoint, with a `tensors.Tensor` for every tensor.

    Raises:
        UserError: the file is no such checkpoint, damaged, or names what no checkpoint needs.
    """
    refuse_pointer(path)
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            entries = {info.filename: info for info in archive.infolist()}
            pickled = [name for name in entries if name.count("/") == 1 and name.endswith(".pkl")]
            if len(pickled) != 1 or not pickled[0].endswith("/data.pkl"):
                raise UserError(f"{path}: no data.pkl inside; this is no checkpoint of torch's")
            prefix = pickled[0].removesuffix("data.pkl")
            order = entries.get(f"{prefix}byteorder")
            if order and archive.read(order).strip() != b"little":
                raise UserError(f"{path}: written on a big-endian machine; convert it there")
            reader = _Reader(file, path, prefix, entries)
            with archive.open(pickled[0]) as stream:
                return Unpickler(stream, path, reader.storage).load()
    except zipfile.BadZipFile as error:
        raise UserError(
            f"{path}: no zip of torch's ({error}); it is truncated, or older than torch 1.6: "
            "fetch it again, or save it as safetensors"
        ) from None
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  # a damaged pickle can fail in any way
        raise UserError(f"{path}: data.pkl is damaged ({error}); fetch or make it again") from None


def tensors(content: Any, path: Path) -> dict[str, Tensor]:
    """Return a state dict, out of `load`, as tensors under their own names.

    Raises:
        UserError: it holds anything else.
    """
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds no state dict; is this a checkpoint of a model?")
    found = {}
    for name, value in content.items():
        if not isinstance(value, Tensor) or not isinstance(name, str):
            kind = type(value).__name__
            raise UserError(f"{path}: {name}: a {kind}, not a tensor; save the weights alone")
        found[name] = Tensor(name, value.dtype, value.shape, value.extents)
    try:
        check_text(*found)
    except ValueError as error:
        raise UserError(f"{path}: a tensor's name: {error}; save the weights again") from None
    return found


def verify(path: Path, wanted: Iterable[Tensor]) -> None:
    """Check the numbers of some tensors of a file against the zip's own checksums.

    Raises:
        UserError: a storage is damaged; named by a tensor in it.
    """
    starts = {extent.start: tensor for tensor in wanted for extent in tensor.extents}
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            for info in archive.infolist():
                start = _start(file, info)
                inside = [at for at in starts if start <= at < start + info.file_size]
                if inside and _checksum(file, start, info.file_size) != info.CRC:
                    raise UserError(
                        f"{path}: {starts[inside[0]].name}: damaged, its checksum differs; "
                        "fetch or make the checkpoint again"
                    )
    except zipfile.BadZipFile as error:
        raise UserError(f"{path}: no zip ({error}); fetch or make it again") from None


@dataclass(frozen=True)
class _Reader:
    """Where the entries of an open checkpoint lie."""

    file: Any
    path: Path
    prefix: str
    entries: Mapping[str, zipfile.ZipInfo]

    def storage(self, dtype: str, key: str, elements: int) -> Storage:
        info = self.entries.get(f"{self.prefix}data/{key}")
        size = elements * BYTES[dtype]
        if info is None or info.compress_type != zipfile.ZIP_STORED or info.file_size != size:
            raise UserError(
                f"{self.path}: storage {key}: not the {size} bytes that data.pkl says; "
                "fetch or make the checkpoint again"
            )
        start = _start(self.file, info)
        if start + size > self.path.stat().st_size:
            raise UserError(f"{self.path}: storage {key}: beyond the file's end; it is truncated")
        return Storage(dtype, key, Extent(self.path, start, size))


def _start(file: Any, info: zipfile.ZipInfo) -> int:
    """Return where an entry's bytes begin, which only its local header tells."""
    file.seek(info.header_offset)
    raw = file.read(LOCAL_HEADER.size)
    if raw[:4] != b"PK\x03\x04" or len(raw) < LOCAL_HEADER.size:
        raise zipfile.BadZipFile(f"no entry at byte {info.header_offset}")
    name, extra = LOCAL_HEADER.unpack(raw)
    return int(info.header_offset + LOCAL_HEADER.size + name + extra)


def _checksum(file: Any, start: int, size: int) -> int:
    file.seek(start)
    crc = 0
    while size and (piece := file.read(min(size, 1 << 20))):
        crc, size = zlib.crc32(piece, crc), size - len(piece)
    return crc
