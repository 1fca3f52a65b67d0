"""What the preset says: why it chose what it chose, or why nothing fits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..sections import Train
from .devices import Devices
from .estimate import Memory
from .shape import Shape


def lines(
    train: Train,
    settled: Train,
    layers: int,
    whole: int,
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
    if whole:
        yield f"{whole} of {shape.layers} layers stay whole on each device for a step"
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


def refusal(
    train: Train, shape: Shape, devices: Devices, least: Memory, cures: Sequence[str]
) -> str:
    """Say what does not fit, by numbers, and what would."""
    return (
        f"{shape.parameters / 1e9:.1f} billion parameters do not fit: the least that "
        f"{train.method} takes of each device is {least}, and there are {devices}; "
        + (f"{' or '.join(cures[:3])} would fit" if cures else "it needs larger devices")
        + "; `--force` tries it all the same"
    )
