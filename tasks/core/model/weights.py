"""Judge a folder of model files before anything is built on it: whole, readable, really weights."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import checkpoint, safetensors
from .safetensors import refuse_pointer
from .tensors import Tensor


@dataclass(frozen=True)
class Model:
    """What a folder of model files turned out to hold.

    Attributes:
        folder: where it lies.
        config: what config.json holds.
        tensors: by name, in the order in which they lie on the disk.
        metadata: the notes of all safetensors files together.
    """

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]

    @property
    def architecture(self) -> str:
        """The first of config.json's."""
        return str(self.config["architectures"][0])

    @property
    def parameters(self) -> int:
        """The elements of all tensors."""
        return sum(tensor.elements for tensor in self.tensors.values())

    @property
    def dtype(self) -> str:
        """The type of most elements, by safetensors' names."""
        counts: Counter[str] = Counter()
        for tensor in self.tensors.values():
            counts[tensor.dtype] += tensor.elements
        return max(counts, key=lambda name: counts[name], default="unknown")

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest says of the model."""
        count = len(self.tensors)
        return {"tensors": count, "parameters": self.parameters, "dtype": self.dtype}


def inspect(folder: Path) -> Model:
    """Return what a model folder holds; only headers are read.

    Raises:
        UserError: no config.json, Git-LFS pointers in the place of weights, a truncated file, no
            weights at all, an index that does not fit its files.
    """
    config = _config(folder)
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    paths, index = _shards(folder)
    for path in paths:
        if path.suffix == ".safetensors":
            file = safetensors.read(path)
            found, notes = file.tensors, file.metadata
        else:
            found, notes = checkpoint.tensors(checkpoint.load(path), path), {}
        twice = next((name for name in found if name in tensors), None)
        if twice:
            raise UserError(f"{path}: {twice} is in {tensors[twice].extents[0].path.name}, too")
        if index:
            _check_index(path, found, index)
        tensors.update(found)
        metadata.update(notes)
    if not tensors:
        raise UserError(f"{paths[0]}: holds no tensor; fetch the model again")
    return Model(folder, config, tensors, metadata)


def _check_index(path: Path, found: Mapping[str, Tensor], index: Mapping[str, str]) -> None:
    """Refuse a file that has not just the tensors that the index has for it."""
    promised = {name for name, file in index.items() if file == path.name}
    if odd := sorted(promised ^ set(found)):
        where = "the index has it here, the file has not" if odd[0] in promised else "not in index"
        raise UserError(f"{path}: {odd[0]}: {where}; fetch the model again")


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        names = config["architectures"]
        if not isinstance(names, list) or not isinstance(names[0], str):
            raise ValueError("architectures should be a list of names")
    except FileNotFoundError:
        raise UserError(
            f"{folder}: no config.json; is this the folder of a Hugging Face model?"
        ) from None
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: names no architecture ({error}); fetch the file again") from None
    return dict(config)


def _shards(folder: Path) -> tuple[list[Path], Mapping[str, str]]:
    """Return the files that hold the weights, and the index where there is one."""
    for stem, suffix in (("model", "safetensors"), ("pytorch_model", "bin")):
        index = folder / f"{stem}.{suffix}.index.json"
        if index.exists():
            return _indexed(index)
        found = sorted(folder.glob(f"{stem}*.{suffix}")) or sorted(folder.glob(f"*.{suffix}"))
        if found:
            return found, {}
    raise UserError(f"{folder}: no weights, neither *.safetensors nor *.bin; fetch the model again")


def _indexed(index: Path) -> tuple[list[Path], Mapping[str, str]]:
    refuse_pointer(index)
    try:
        places = dict(json.loads(index.read_text(encoding="utf-8"))["weight_map"])
        names = sorted(set(places.values()))
        suffix = Path(index.stem).with_suffix("").suffix
        odd = next((name for name in names if "/" in name or not name.endswith(suffix)), None)
        if not names:
            raise ValueError("weight_map is empty")
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"{index}: no index of weights ({error}); fetch it again") from None
    if odd is not None:
        raise UserError(f"{index}: weight_map: '{odd}' is no file of this folder")
    for name in names:
        if not (index.parent / name).is_file():
            raise UserError(f"{index.parent / name}: missing, but {index.name} names it; fetch it")
    return [index.parent / name for name in names], places
