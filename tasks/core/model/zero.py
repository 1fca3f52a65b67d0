"""Put together what DeepSpeed's ranks saved: checkpoint directories of ZeRO-1, -2 and -3.

Each rank's `*_optim_states.pt` has its part of the float32 weights in flat groups.  Under stage 1
and 2 a group is cut into one run a rank; under stage 3 every parameter is (deepspeed 0.16,
utils/zero_to_fp32.py).  Nothing is joined in memory: a parameter becomes a list of places.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import checkpoint
from .tensors import BYTES, Extent, Tensor
from .unpickling import Opaque

_RANK = re.compile(r"(\d+)")


def load(folder: Path) -> dict[str, Tensor]:
    """Return the weights in a checkpoint directory.

    Raises:
        UserError: a rank's file is missing or damaged, or the parts do not fit together.
    """
    optimizers = [_section(path, "optimizer_state_dict") for path in _files(folder, "optim")]
    models = [checkpoint.load(path) for path in _files(folder, "model")]
    stage, ranks = _layout(optimizers[0])
    if len(optimizers) != ranks:
        raise UserError(
            f"{folder}: {ranks} processes trained, {len(optimizers)} *_optim_states.pt are here; "
            "copy the missing ones"
        )
    found = _whole(models[0], folder)
    if stage in (1, 2):
        found.update(_stage2(folder, optimizers, models[0]))
    elif stage == 3:
        found.update(_stage3(folder, optimizers, models))
    else:
        raise UserError(f"{folder}: ZeRO stage {stage!r} is unknown; save with stage 1, 2 or 3")
    for name, same in _pairs(models[0].get("shared_params", {})):
        if same in found:
            found[name] = replace(found[same], name=name)
    return found


def is_whole(folder: Path) -> bool:
    """Return whether a checkpoint directory has the parts of every process that trained."""
    try:
        optimizers, models = (_files(folder, kind) for kind in ("optim", "model"))
        stage, ranks = _layout(_section(optimizers[0], "optimizer_state_dict"))
    except UserError:
        return False
    return len(optimizers) == ranks and len(models) == (ranks if stage == 3 else 1)


def _layout(optimizer: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return ZeRO's stage, and the number of processes that trained."""
    stage, ranks = optimizer.get("zero_stage"), optimizer.get("partition_count")
    stage = stage.arguments[0] if isinstance(stage, Opaque) and stage.arguments else stage
    return stage, max(ranks) if isinstance(ranks, list) else ranks


def _files(folder: Path, kind: str) -> list[Path]:
    """Return each rank's file, in the order of the ranks."""
    found = sorted(
        folder.glob(f"*_{kind}_states.pt"),
        key=lambda path: [int(x) if x.isdigit() else x for x in _RANK.split(path.name)],
    )
    if not found:
        raise UserError(
            f"{folder}: no *_{kind}_states.pt; is this a checkpoint directory of DeepSpeed's?"
        )
    return found


def _section(path: Path, name: str) -> Mapping[str, Any]:
    content = checkpoint.load(path)
    section = content.get(name) if isinstance(content, Mapping) else None
    if not isinstance(section, Mapping):
        raise UserError(f"{path}: no {name}; is this a file of DeepSpeed's ZeRO?")
    return section


def _whole(model: Mapping[str, Any], folder: Path) -> dict[str, Tensor]:
    """Return what every rank has whole: buffers, and under stage 1 and 2 the frozen weights."""
    module = model.get("module") or {}
    found = {
        name: replace(module[name], name=name)
        for name in model.get("buffer_names") or ()
        if isinstance(module.get(name), Tensor)
    }
    shapes = model.get("frozen_param_shapes") or {}
    parts = model.get("frozen_param_fragments") or {}
    for name, shape in shapes.items():
        part = parts.get(name)
        if isinstance(part, Tensor) and part.elements == prod(shape):
            found[name] = replace(part, name=name, shape=tuple(shape))
    return found


def _stage2(
    folder: Path, optimizers: Sequence[Mapping[str, Any]], model: Mapping[str, Any]
) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights: a group's parameters lie end to end, across the ranks' parts."""
    groups = [_flat(folder, each, "single_partition_of_fp32_groups") for each in optimizers]
    for number, shapes in enumerate(_shapes(folder, model)):
        parts, at = [group[number] for group in groups], 0
        for name, shape in shapes.items():
            end = at + prod(shape)
            yield name, _join(folder, name, shape, parts[0].dtype, _take(parts, at, end))
            at = end


def _stage3(
    folder: Path, optimizers: Sequence[Mapping[str, Any]], models: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights: each rank has an equal share of each parameter, the last one padded."""
    groups = [_flat(folder, each, "fp32_flat_groups") for each in optimizers]
    at = 0
    for shapes in _shapes(folder, models[0]):
        for name, shape in shapes.items():
            share = -(-prod(shape) // len(groups))
            parts = [extent for group in groups for extent in _take(group, at, at + share)]
            yield name, _join(folder, name, shape, groups[0][0].dtype, parts)
            at += share
    for name, shape in (models[0].get("frozen_param_shapes") or {}).items():
        found = [(model.get("frozen_param_fragments") or {}).get(name) for model in models]
        parts = [extent for part in found if isinstance(part, Tensor) for extent in part.extents]
        dtype = found[0].dtype if isinstance(found[0], Tensor) else "F32"
        yield name, _join(folder, name, shape, dtype, parts)


def _flat(folder: Path, optimizer: Mapping[str, Any], name: str) -> list[Tensor]:
    groups = optimizer.get(name)
    if not isinstance(groups, list) or not all(isinstance(each, Tensor) for each in groups):
        raise UserError(f"{folder}: no {name} in *_optim_states.pt; save it with DeepSpeed 0.16")
    return groups


def _shapes(folder: Path, model: Mapping[str, Any]) -> list[Mapping[str, tuple[int, ...]]]:
    shapes = model.get("param_shapes")
    if not isinstance(shapes, list) or not all(isinstance(each, Mapping) for each in shapes):
        raise UserError(f"{folder}: no param_shapes in *_model_states.pt; save it with DeepSpeed")
    return shapes


def _take(parts: Sequence[Tensor], start: int, end: int) -> list[Extent]:
    """Return where the elements from `start` to before `end` of tensors laid end to end are."""
    found, at = [], 0
    for part in parts:
        size = BYTES[part.dtype]
        first, last = max(start, at), min(end, at + part.elements)
        if first < last:
            place = part.extents[0]
            found.append(
                Extent(place.path, place.start + (first - at) * size, (last - first) * size)
            )
        at += part.elements
    return found


def _join(
    folder: Path, name: str, shape: Sequence[int], dtype: str, parts: Sequence[Extent]
) -> Tensor:
    """Return the tensor that the parts make up, without the padding behind it."""
    missing, kept = prod(shape) * BYTES[dtype], []
    for part in parts:
        length = min(part.length, missing)
        if length:
            kept.append(replace(part, length=length))
        missing -= length
    if missing:
        raise UserError(
            f"{folder}: {name}: the ranks' parts are {missing} bytes short; copy the directory anew"
        )
    return Tensor(name, dtype, tuple(shape), tuple(kept))


def _pairs(shared: Any) -> list[tuple[str, str]]:
    return list(shared.items() if isinstance(shared, Mapping) else map(tuple, shared or ()))
