"""The fastest way to train that fits the devices."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from ..sections import Train
from . import estimate, reasons
from .devices import Devices
from .estimate import Memory
from .shape import Shape

# Whose attention goes through transformers' registry, where fast_attention takes its place.
KNOWN = ("llama", "mistral", "qwen2")
# Tokens that keep a device busy: measured, 8 thousand are as fast as 24 thousand.
ENOUGH = 16384
# The same on a processor.
ENOUGH_THERE = 2048
WORKERS = 4
# A recipe that says one of these has its batches as it says.
BATCH = frozenset({"batch_size", "accumulative_counts"})
# A share of the memory stays free, as the estimate is one.
USABLE = 0.95


@dataclass(frozen=True)
class Fast:
    """What the template says to fast_model and fast_data.

    Attributes:
        checkpoint_layers: how many layers are computed twice.
        split: of how many smaller batches one is made.
        fused: whether the optimiser updates all weights in one kernel.
        whole_layers: how many stay whole from forward to backward where devices share them.
    """

    checkpoint_layers: int = 0
    split: int = 1
    fused: bool = True
    whole_layers: int = 0


@dataclass(frozen=True)
class Choice:
    """A training as it will run, and why so."""

    train: Train
    fast: Fast | None = None
    reasons: tuple[str, ...] = ()
    memory: Memory | None = None


class TooLarge(Exception):
    """No way of training fits the devices."""


def choose(
    train: Train, shape: Shape, devices: Devices, *, counted: bool = False, force: bool = False
) -> Choice:
    """Return the fastest way to train that fits.

    Args:
        counted: whether the recipe counts iterations, so that each must be what it would be.

    Raises:
        TooLarge: there is none, and `force` does not take the smallest all the same.
    """
    fast = shape.kind in KNOWN and not train.use_varlen_attn and train.sequence_parallel_size == 1
    start = train.model_copy(update=_plain(train, devices))
    kept = counted or not BATCH.isdisjoint(train.model_fields_set)
    ways = list(_ways(start, shape, devices, fast, kept))
    fitting = (way for way in ways if not devices.count or _fits(way[2], devices))
    found = next(fitting, min(ways, key=lambda way: way[2].total) if force else None)
    if found is None:
        least = min((way[2] for way in ways), key=lambda need: need.total)
        cures = list(_cures(train, shape, devices))
        raise TooLarge(reasons.refusal(train, shape, devices, least, cures))
    settled, layers, need = found
    split = settled.batch_size // train.batch_size
    whole = _whole(settled, shape, devices, need) if fast else 0
    need = replace(need, whole=need.whole + max(0, whole - 1) * estimate.layer_size(shape))
    chosen = Fast(layers, split, bool(devices.count), whole) if fast else None
    settled = settled.model_copy(update={"use_activation_checkpointing": layers > 0})
    said = tuple(reasons.lines(train, settled, layers, whole, shape, devices, need, fast))
    return Choice(settled, chosen, said, need)


def _plain(train: Train, devices: Devices) -> dict[str, Any]:
    """Return what the devices alone decide, where the recipe says nothing."""
    found: dict[str, Any] = {"dtype": _dtype(devices)}
    if devices.count:
        found["dataloader_num_workers"] = min(WORKERS, len(os.sched_getaffinity(0)))
    return {name: value for name, value in found.items() if name not in train.model_fields_set}


def _dtype(devices: Devices) -> str:
    if not devices.count:
        return "float32"
    return "bfloat16" if devices.has_bfloat16 else "float16"


def _ways(
    train: Train, shape: Shape, devices: Devices, fast: bool, kept: bool
) -> Iterator[tuple[Train, int, Memory]]:
    """Yield ways to train, the fastest first: the batch, the layers computed twice, what it takes.

    A larger batch than keeps a device busy gains nothing, a layer computed twice costs; DeepSpeed's
    stages come where a device cannot hold it all.
    """
    for stage in _stages(train):
        launch = train.launch.model_copy(update={"deepspeed": stage})
        sizes = [train.batch_size] if kept else _batches(train, devices)
        for size in sizes:
            update = {
                "launch": launch,
                "batch_size": size,
                "accumulative_counts": train.batch_size * train.accumulative_counts // size,
            }
            tried = train.model_copy(update=update)
            for layers in _recomputed(train, shape, fast, last=size == sizes[-1]):
                load = estimate.load(tried, fast, layers)
                yield tried, layers, estimate.memory(shape, load)


def _stages(train: Train) -> list[str | None]:
    """Return DeepSpeed's stages from the fastest to the one that needs the least memory."""
    launch = train.launch
    if "deepspeed" in launch.model_fields_set:
        return [launch.deepspeed]
    several = ["zero3"] if launch.devices > 1 else []
    if train.method == "full":
        # The weights that are trained are kept in float32 beside those that compute.
        return ["zero2", *several, "zero2_offload", "zero3_offload"]
    if train.method == "qlora":
        return [None]
    # Two devices are 1.96 times as fast as one with ZeRO-2, 1.98 with DDP, which shares nothing.
    return ["zero2" if several else None, *several, "zero3_offload"]


def _batches(train: Train, devices: Devices) -> list[int]:
    """Return sizes of a batch, the best first, that leave a step's number of rows as it is."""
    rows = train.batch_size * train.accumulative_counts
    most = (ENOUGH if devices.count else ENOUGH_THERE) // train.max_length
    return [n for n in range(rows, 0, -1) if rows % n == 0 and (n <= most or n == 1)]


def _recomputed(train: Train, shape: Shape, fast: bool, last: bool) -> range:
    """Return how many layers may be computed twice; the fewest first."""
    if "use_activation_checkpointing" in train.model_fields_set:
        count = shape.layers * train.use_activation_checkpointing
        return range(count, count + 1)
    if not fast:
        return range(0, shape.layers + 1, shape.layers) if last else range(1)
    return range(shape.layers + 1) if last else range(1)


def _whole(train: Train, shape: Shape, devices: Devices, need: Memory) -> int:
    """Return how many frozen layers, shared by devices, have room to stay whole for a step."""
    if train.launch.deepspeed != "zero3" or train.method != "lora":
        return 0
    room = (devices.memory * USABLE - need.total) // estimate.layer_size(shape)
    return min(shape.layers, 1 + max(0, int(room)))


def _fits(need: Memory, devices: Devices) -> bool:
    return need.total <= devices.memory * USABLE


def _cures(train: Train, shape: Shape, devices: Devices) -> Iterator[str]:
    """Yield the changes of a recipe with which it would fit, in its own words."""
    for words, tried in _smaller(train):
        ways = _ways(tried, shape, devices, fast=True, kept=True)
        if any(_fits(need, devices) for _, _, need in ways):
            yield words


def _smaller(train: Train) -> Iterator[tuple[str, Train]]:
    """Yield changes of a recipe that take less memory, in its own words."""
    if train.method != "qlora":
        yield "train.method: qlora", train.model_copy(update={"method": "qlora"})
    if train.batch_size > 1:
        yield "train.batch_size: 1", train.model_copy(update={"batch_size": 1})
    for count in (2, 4, 8):
        if count > train.launch.processes:
            launch = train.launch.model_copy(update={"processes": count})
            yield f"train.launch.processes: {count}", train.model_copy(update={"launch": launch})
