"""Run the pickle in a checkpoint of torch's by an unpickler that knows tensors and plain types.

A pickle is a program.  What else it names stays a name, never imported and never called; a name
that no checkpoint needs is an error.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ..errors import UserError
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


class Unpickler(pickle.Unpickler):
    """Builds tensors and plain types; other names become `Opaque`, bad ones an error."""

    def __init__(
        self, stream: Any, path: Path, storage: Callable[[str, str, int], Storage]
    ) -> None:
        """Take the pickle, its file's name for messages, and what finds a storage.

        Args:
            storage: from a dtype, a key and a number of elements.
        """
        super().__init__(stream, encoding="utf-8")
        self._path, self._storage = path, storage

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
                f"{self._path}: data.pkl asks for {module}.{name}, which no checkpoint "
                "needs: it may want to run code.  Nothing of it was run; do not use this file"
            )
        return type(f"{module}.{name}", (Opaque,), {})

    def persistent_load(self, pid: Any) -> Storage:
        kind, dtype, key, _, elements = pid
        if kind != "storage" or dtype not in BYTES or type(elements) is not int or elements < 0:
            raise ValueError(f"an unknown kind of storage {pid[:3]!r}")
        return self._storage(dtype, str(key), elements)


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
        raise UserError(
            f"{storage.extent.path}: storage {storage.key}: a tensor that is no contiguous run of "
            "numbers; save it with .contiguous(), or as safetensors"
        )
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
