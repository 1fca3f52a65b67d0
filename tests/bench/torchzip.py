"""Write a checkpoint as torch.save does, without torch."""

from __future__ import annotations

import io
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def rebuild(*_: Any) -> None:
    """Stand for torch._utils._rebuild_tensor_v2, by its name alone."""


class Storage:
    """Stands for torch.FloatStorage, by its name alone."""


rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
Storage.__module__, Storage.__qualname__ = "torch", "FloatStorage"
for name, content in (("torch", Storage), ("torch._utils", rebuild)):
    module = types.ModuleType(name)
    setattr(module, content.__qualname__, content)
    sys.modules.setdefault(name, module)


class Tensor:
    """A tensor of float32 whose elements all have one value."""

    def __init__(self, key: int, shape: Sequence[int], value: float) -> None:
        self.key, self.shape = str(key), tuple(shape)
        self.data = struct.pack("<f", value) * (shape[0] * shape[1])

    def __reduce__(self) -> tuple[Any, ...]:
        stride = (self.shape[1], 1)
        return rebuild, (Place(self), 0, self.shape, stride, False, OrderedDict())


class Place:
    """Where a tensor's numbers lie in the zip."""

    def __init__(self, tensor: Tensor) -> None:
        self.identity = ("storage", Storage, tensor.key, "cpu", len(tensor.data) // 4)


class Pickler(pickle.Pickler):
    """Writes storages as torch does: by their place."""

    def persistent_id(self, obj: Any) -> Any:
        return obj.identity if isinstance(obj, Place) else None


def save(path: Path, tensors: Mapping[str, Tensor], version: str = "3") -> None:
    """Write tensors as a checkpoint of mmengine; `version` has room for a note."""
    buffer = io.BytesIO()
    Pickler(buffer, protocol=2).dump({"state_dict": OrderedDict(tensors)})
    with zipfile.ZipFile(path, "w") as file:
        entries = {"data.pkl": buffer.getvalue(), "byteorder": b"little"}
        entries |= {f"data/{t.key}": t.data for t in tensors.values()}
        for entry, content in {**entries, "version": version.encode()}.items():
            file.writestr(zipfile.ZipInfo(f"archive/{entry}"), content)
