"""Read torch's checkpoints without torch, and without running what is in them.

A checkpoint is a zip of stored entries: `<name>/data.pkl`, a pickle of everything but the numbers,
and `<name>/data/<key>`, the numbers of one storage each (torch/serialization.py).  A pickle is a
program; ours is run by an unpickler that knows tensors and plain types.  What else it names stays a
name: never imported, never called.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ..errors import UserError
from .safetensors import refuse_pointer
from .tensors import BYTES, Extent, Tensor

STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL",
}  # fmt: skip
# Packages whose names are found in honest checkpoints: counters, settings, histories.
HARMLESS = frozenset({"torch", "numpy", "mmengine", "deepspeed", "xtuner", "transformers", "peft"})
HARMLESS_NAMES = frozenset(
    {
        ("_codecs", "encode"),
        ("argparse", "Namespace"),
        ("collections", "defaultdict"),
        ("collections", "deque"),
        ("pathlib", "PosixPath"),
        *((module, "getattr") for module in ("__builtin__", "builtins")),
    }
)
# Below numpy and torch there are functions that run text or load files.
RUNNERS = ("exec", "eval", "load", "open", "system", "popen", "run", "compile", "import", "call")
LOCAL_HEADER = struct.Struct("<26xHH")


class Opaque:
    """Stands for an object of a type that is no tensor and not plain: it swallows its content.

    Attributes:
        arguments: what it was made of, which for an enumeration is its value.
    """

    arguments: tuple[Any, ...]

    def __new__(cls, *arguments: Any, **_: Any) -> Opaque:
        made = object.__new__(cls)
        made.arguments = arguments
        return made

    def _swallow(self, *_: Any, **__: Any) -> None:
        """Keep nothing."""

    __init__ = __setstate__ = __setitem__ = append = extend = add = update = _swallow

    def __call__(self, *_: Any, **__: Any) -> Opaque:
        return self


@dataclass(frozen=True)
class Storage:
    """The numbers of one or more tensors: the type, and where they lie."""

    dtype: str
    key: str
    extent: Extent


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
                return _Unpickler(stream, reader).load()
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


class _Unpickler(pickle.Unpickler):
    """Builds tensors and plain types; other names become `Opaque`, bad ones an error."""

    def __init__(self, stream: Any, reader: _Reader) -> None:
        super().__init__(stream, encoding="utf-8")
        self._reader = reader

    def find_class(self, module: str, name: str) -> Any:
        if module == "collections" and name == "OrderedDict":
            return OrderedDict
        if module in ("torch._utils", "torch._tensor", "torch") and name in _MAKERS:
            return _MAKERS[name]
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if module in ("builtins", "__builtin__") and name in ("set", "frozenset", "dict", "list"):
            return {"set": set, "frozenset": frozenset, "dict": dict, "list": list}[name]
        if not _is_harmless(module, name):
            raise UserError(
                f"{self._reader.path}: data.pkl asks for {module}.{name}, which no checkpoint "
                "needs: it may want to run code.  Nothing of it was run; do not use this file"
            )
        return type(f"{module}.{name}", (Opaque,), {})

    def persistent_load(self, pid: Any) -> Storage:
        kind, dtype, key, _, elements = pid
        if kind != "storage" or dtype not in BYTES or type(elements) is not int or elements < 0:
            raise ValueError(f"an unknown kind of storage {pid[:3]!r}")
        return self._reader.storage(dtype, str(key), elements)


def _is_harmless(module: str, name: str) -> bool:
    if (module, name) in HARMLESS_NAMES:
        return True
    words = f"{module}.{name}".lower().replace(".", "_").split("_")
    return module.split(".")[0] in HARMLESS and not any(word in RUNNERS for word in words)


def _rebuild(storage: Storage, offset: int, shape: Any, stride: Any, *_: Any) -> Tensor:
    """Return the tensor that torch._utils._rebuild_tensor_v2 would."""
    size = BYTES[storage.dtype]
    expected, step = [], 1
    for extent in reversed(shape):
        expected.append(step)
        step *= extent
    start, length = offset * size, prod(shape) * size
    if start < 0 or length < 0 or start + length > storage.extent.length:
        raise ValueError(f"storage {storage.key}: a tensor of {length} bytes does not fit")
    pairs = zip(shape, stride, reversed(expected), strict=True)
    if any(extent > 1 and found != wanted for extent, found, wanted in pairs):
        raise ValueError(f"storage {storage.key}: a tensor that is no contiguous run of numbers")
    place = Extent(storage.extent.path, storage.extent.start + start, length)
    return Tensor("", storage.dtype, tuple(shape), (place,))


def _parameter(tensor: Tensor, *_: Any) -> Tensor:
    return tensor


def _attributed(make: Any, _: Any, arguments: Any, *__: Any) -> Any:
    """Return a tensor to which Python attributes were given, as DeepSpeed gives them."""
    if make not in (_rebuild, _parameter):
        raise ValueError("a tensor of an unknown kind")
    return make(*arguments)


def _size(extents: Iterable[int] = ()) -> tuple[int, ...]:
    return tuple(extents)


_MAKERS = {
    "_rebuild_tensor_v2": _rebuild,
    "_rebuild_tensor": _rebuild,
    "_rebuild_parameter": _parameter,
    "_rebuild_from_type_v2": _attributed,
    "Size": _size,
}


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
