"""Settle what `train.preset: auto` leaves open: from the model's size and the devices' memory.

What a recipe says itself stays.  Nothing here changes what is learned: a step sees as many rows as
it would without the preset, and rows weigh the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from doit import get_var

from .. import console, paths, settings
from ..errors import UserError
from ..recipe import Recipe
from ..sections import Train
from . import devices as machine
from . import estimate, shape
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
# How full rows are, and the letters of a token, where nobody has counted.
FULL = 0.9
LETTERS = 4.0
# A share of the memory stays free, as the estimate is one.
USABLE = 0.95


@dataclass(frozen=True)
class Fast:
    """What the template says to fast_model and fast_data.

    Attributes:
        checkpoint_layers: how many layers are computed twice.
        split: of how many smaller batches one is made.
        fused: whether the optimiser updates all weights in one kernel.
    """

    checkpoint_layers: int = 0
    split: int = 1
    fused: bool = True


@dataclass(frozen=True)
class Choice:
    """A training as it will run, and why so."""

    train: Train
    fast: Fast | None = None
    reasons: tuple[str, ...] = ()
    memory: Memory | None = None


def choice(recipe: Recipe) -> Choice:
    """Return how a recipe's training will run; without a preset, as the recipe says.

    Raises:
        UserError: it fits on no device, or the base is not there yet.
    """
    train = recipe.train
    assert train is not None
    if train.preset is None:
        return Choice(train)
    try:
        return choose(train, of(recipe), machine.found(), force=forced())
    except TooLarge as error:
        raise UserError(f"{recipe.file}: train.preset: {error}") from None


def of(recipe: Recipe) -> Shape:
    """Return the shape of a recipe's base."""
    return shape.read(paths.output(recipe.name, "base") / "config.json")


def nominal(train: Train) -> Choice:
    """Return the choice that stands for all machines': equal recipes have equal keys."""
    if train.preset is None:
        return Choice(train)
    dtype = train.dtype if "dtype" in train.model_fields_set else "bfloat16"
    return Choice(train.model_copy(update={"dtype": dtype}), Fast())


def forced() -> bool:
    """Return whether a training is to start although it does not fit."""
    return settings.current().force == "1" or get_var("force") == "1"


def expected(recipe: Recipe, choice: Choice) -> list[str]:
    """Return what a training will take, for people: memory of each device, and time."""
    devices = machine.found()
    if not devices.count:
        return []
    try:
        size = of(recipe)
    except UserError:
        return []
    train, fast = choice.train, choice.fast
    layers = size.layers * train.use_activation_checkpointing
    load = estimate.load(train, fast is not None, fast.checkpoint_layers if fast else layers)
    need = choice.memory or estimate.memory(size, load)
    speed = estimate.speed(size, load, devices)
    tokens = _tokens(recipe, train)
    return [
        f"memory: about {need} of {devices.memory / 1e9:.0f} GB a device",
        (
            f"time: about {console.duration(tokens / speed)} for {tokens / 1e6:.1f} million "
            f"tokens, at {speed:.0f} a second"
        ),
    ]


def _tokens(recipe: Recipe, train: Train) -> float:
    """Return about how many tokens a training sees: as iterations say, or the data's size."""
    if train.max_iters:
        return train.max_iters * train.batch_size * train.max_length * train.launch.devices * FULL
    data = paths.output(recipe.name, "convert").glob("**/*.arrow")
    return sum(path.stat().st_size for path in data) / LETTERS * (train.max_epochs or 1)


class TooLarge(Exception):
    """No way of training fits the devices."""


def choose(train: Train, shape: Shape, devices: Devices, *, force: bool = False) -> Choice:
    """Return the fastest way to train that fits.

    Raises:
        TooLarge: there is none, and `force` does not take the smallest all the same.
    """
    given = train.model_fields_set
    fast = shape.kind in KNOWN and not train.use_varlen_attn and train.sequence_parallel_size == 1
    fixed: dict[str, Any] = {}
    if "dtype" not in given:
        fixed["dtype"] = _dtype(devices)
    if "dataloader_num_workers" not in given and devices.count:
        fixed["dataloader_num_workers"] = min(WORKERS, len(os.sched_getaffinity(0)))
    start = train.model_copy(update=fixed)
    ways = list(_ways(start, shape, devices, fast))
    fitting = (way for way in ways if not devices.count or _fits(way[2], devices))
    found = next(fitting, min(ways, key=lambda way: way[2].total) if force else None)
    if found is None:
        raise TooLarge(_refusal(train, shape, devices, min((w[2] for w in ways), key=_total)))
    settled, layers, need = found
    split = settled.batch_size // train.batch_size
    chosen = Fast(layers, split, fused=bool(devices.count)) if fast else None
    settled = settled.model_copy(update={"use_activation_checkpointing": layers > 0})
    reasons = tuple(_reasons(train, settled, layers, shape, devices, need, fast))
    return Choice(settled, chosen, reasons, need)


def _dtype(devices: Devices) -> str:
    if not devices.count:
        return "float32"
    return "bfloat16" if devices.has_bfloat16 else "float16"


def _ways(
    train: Train, shape: Shape, devices: Devices, fast: bool
) -> Iterator[tuple[Train, int, Memory]]:
    """Yield ways to train, the fastest first: the batch, the layers computed twice, what it takes.

    A larger batch than keeps a device busy gains nothing, a layer computed twice costs; DeepSpeed's
    stages come where a device cannot hold it all.
    """
    for stage in _stages(train):
        launch = train.launch.model_copy(update={"deepspeed": stage})
        sizes = _batches(train, devices)
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
    # Two devices reached 97% of twice one's speed with ZeRO-2, and 90% with DDP's float32 sums.
    return ["zero2" if several else None, *several, "zero3_offload"]


def _batches(train: Train, devices: Devices) -> list[int]:
    """Return sizes of a batch, the best first, that leave a step's number of rows as it is."""
    if {"batch_size", "accumulative_counts"} & train.model_fields_set:
        return [train.batch_size]
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


def _fits(need: Memory, devices: Devices) -> bool:
    return need.total <= devices.memory * USABLE


def _total(need: Memory) -> float:
    return need.total


def _refusal(train: Train, shape: Shape, devices: Devices, least: Memory) -> str:
    """Say what does not fit, by numbers, and what would."""
    cures = []
    for words, tried in _smaller(train):
        if any(_fits(way[2], devices) for way in _ways(tried, shape, devices, fast=True)):
            cures.append(words)
    return (
        f"{shape.parameters / 1e9:.1f} billion parameters do not fit: the least that "
        f"{train.method} takes of each device is {least}, and there are {devices}; "
        + (f"{' or '.join(cures[:3])} would fit" if cures else "it needs larger devices")
        + ".  MODELWRIGHT_FORCE=1 tries it all the same"
    )


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


def _reasons(
    train: Train,
    settled: Train,
    layers: int,
    shape: Shape,
    devices: Devices,
    need: Memory,
    fast: bool,
) -> Iterator[str]:
    """Yield what was chosen and why, a line each."""
    given = train.model_fields_set
    yield (
        f"preset auto, for {devices} and {shape.kind or 'a model'} with "
        f"{shape.parameters / 1e9:.1f} billion parameters:"
    )
    yield f"dtype {settled.dtype}: " + ("the recipe's" if "dtype" in given else _why_dtype(devices))
    if fast:
        yield "rows are whole conversations, not cut, not padded, none sees another"
    else:
        yield f"xtuner's own way: no fast one is known for {shape.kind or 'this model'}"
    tokens = settled.batch_size * settled.max_length
    rows = settled.batch_size * settled.accumulative_counts
    yield (
        f"batch_size {settled.batch_size}, accumulative_counts {settled.accumulative_counts}: "
        f"up to {tokens} tokens at a time, {rows} rows a step as before"
    )
    yield f"deepspeed {settled.launch.deepspeed or 'none'}: " + _why_stage(settled)
    held = (
        f"{need} of {devices.memory / 1e9:.0f} GB a device" if devices.count else "no GPU to fill"
    )
    yield f"{layers} of {shape.layers} layers computed twice: {held}"
    if settled.dataloader_num_workers != train.dataloader_num_workers:
        yield f"dataloader_num_workers {settled.dataloader_num_workers}: batches wait for no one"


def _why_dtype(devices: Devices) -> str:
    if not devices.count:
        return "there is no GPU"
    return "these devices compute with it" if devices.has_bfloat16 else "they have no bfloat16"


def _why_stage(settled: Train) -> str:
    stage = settled.launch.deepspeed
    if not stage:
        return "a device holds the whole model"
    if settled.method == "full" and stage == "zero2":
        return "it keeps the weights that are trained in float32"
    if stage == "zero2":
        return "devices exchange gradients in 16 bits, and share the optimiser"
    return "a device alone does not hold it all"
