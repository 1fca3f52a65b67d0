"""How much memory a device will need, and how long training will take.

The constants were measured on one H200 with an 8B model, see docs/benchmarks.md; sizes scale with
the model's.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..sections import Train
from .devices import Devices
from .shape import Shape

# What is kept of a linear layer's neighbourhood for the backward pass, beside xtuner's own way.
COPIES = 1.8
# Rows of logits that the fused loss holds at a time (fast_loss.ROWS).
LOGITS = 2048
# CUDA, kernels' workspaces, and pieces of memory that fit nothing.
OVERHEAD = 2.5e9
# Shares of a device's peak that were reached, without and with our fast path.
REACHED = {False: 0.28, True: 0.48}
# What is left of that when weights come from the host.
OFFLOADED = 0.19
# The time of a layer computed a second time, in its first one's.
AGAIN = 0.44


@dataclass(frozen=True)
class Load:
    """One way to train, as far as memory and time depend on it.

    Attributes:
        tokens: the most that a device holds at a time.
        recomputed: how many layers keep only their input.
        fast: whether fast_model trains.
        devices: all that share the work.
        deepspeed: the stage, or nothing.
    """

    method: str
    dtype: str
    r: int
    tokens: int
    recomputed: int
    fast: bool
    devices: int = 1
    deepspeed: str = ""

    @property
    def shared(self) -> int:
        """Among how many devices DeepSpeed divides weights; 1 is that each has them all."""
        return self.devices if self.deepspeed.startswith("zero3") else 1

    @property
    def size(self) -> int:
        """The bytes of a number that it computes with."""
        return 4 if self.dtype == "float32" else 2

    @property
    def casts(self) -> bool:
        """Whether weights are float32 and each layer computes with a copy in 16 bits.

        PEFT's preparation makes frozen weights so; trained ones are so by our template.
        """
        slow = self.method == "lora" and not self.fast
        return self.size == 2 and not self.deepspeed and (slow or self.method == "full")


@dataclass(frozen=True)
class Memory:
    """What fills a device, in bytes.

    Attributes:
        whole: weights of which it holds a piece, while it has all of them.
    """

    weights: float
    trained: float
    activations: float
    logits: float
    whole: float = 0.0

    @property
    def total(self) -> float:
        """All of it, with what every program takes."""
        parts = (self.weights, self.trained, self.activations, self.logits, self.whole)
        return sum(parts) + OVERHEAD

    def __str__(self) -> str:
        named = (
            (self.weights, "weights"),
            (self.trained, "gradients and optimiser"),
            (self.activations, "activations"),
            (self.logits, "logits"),
            (self.whole, "layers whole for a while"),
        )
        parts = [f"{size / 1e9:.1f} {name}" for size, name in named if size > 5e7]
        return f"{self.total / 1e9:.0f} GB ({', '.join(parts)})"


def load(train: Train, fast: bool, recomputed: int) -> Load:
    """Return what a training comes to, each row as long as it may be."""
    return Load(
        method=train.method,
        dtype=train.dtype,
        r=train.lora.r,
        tokens=train.batch_size * train.max_length // train.sequence_parallel_size,
        recomputed=recomputed,
        fast=fast,
        devices=train.launch.devices,
        deepspeed=train.launch.deepspeed or "",
    )


def memory(shape: Shape, load: Load) -> Memory:
    """Return what one device will hold at the worst moment."""
    kept = shape.layers - load.recomputed
    # Between layers, float32 weights leave float32; in xtuner's own way that is among the copies.
    width = (8 if load.casts and load.fast else 6) * shape.hidden + 2 * shape.keys + 3 * shape.inner
    # 1% for the adapter's narrow results; a recomputed layer is whole once, when its turn comes.
    layer = load.tokens * width * load.size * (1.01 if load.fast else COPIES)
    activations = kept * layer + load.recomputed * load.tokens * shape.hidden * load.size
    if load.recomputed and not kept:
        activations += layer
    # Three layers at a time, and the first and the last matrix of the model.
    whole = 3 * layer_size(shape) + 4.0 * shape.head if load.shared > 1 else 0.0
    weights, trained, logits = _weights(shape, load), _trained(shape, load), _logits(shape, load)
    return Memory(weights, trained, activations, logits, whole)


def layer_size(shape: Shape) -> float:
    """Return what a layer's matrices take in 16 bits."""
    return 2.0 * shape.linear / shape.layers


def _weights(shape: Shape, load: Load) -> float:
    if load.deepspeed == "zero3_offload":
        return 2.0 * shape.head
    if load.method == "qlora":
        outer = shape.parameters - shape.linear
        found = shape.linear * 0.53 + outer * (2 if load.fast else 4)
    elif load.casts:
        # The copies of layers that are not computed twice are kept for the backward pass.
        copied = 1 - load.recomputed / shape.layers
        found = 4.0 * shape.parameters + 2.0 * shape.linear * copied
    else:
        found = float(load.size * shape.parameters)
    return found / load.shared


def _trained(shape: Shape, load: Load) -> float:
    """Return gradients, Adam's two moments, and the float32 copy that is trained."""
    full = load.method == "full"
    trained = shape.parameters if full else shape.adapter(load.r)
    if not load.deepspeed:
        # All weights are float32 as they are; an adapter is counted here whole.
        return trained * (12.0 if full else 16.0)
    moments = 0.0 if load.deepspeed.endswith("_offload") else 12.0 / load.devices
    gradients = 2.0 if load.deepspeed == "zero1" else 2.0 / load.devices
    return trained * (moments + gradients)


def _logits(shape: Shape, load: Load) -> float:
    """Return the logits: bfloat16, float32 and both gradients; or a few rows at a time."""
    if load.fast:
        return min(load.tokens, LOGITS) * shape.vocabulary * (4.0 if load.casts else load.size)
    return load.tokens * shape.vocabulary * 12.0


def speed(shape: Shape, load: Load, devices: Devices) -> float:
    """Return the tokens a second of all devices together.

    A frozen weight takes part in two products, forward and to its input's gradient; a trained one
    in three.
    """
    operations = (6 if load.method == "full" else 4) * (shape.linear + shape.head)
    again = 1 + AGAIN * load.recomputed / shape.layers
    reached = REACHED[load.fast] * (OFFLOADED if load.deepspeed.endswith("_offload") else 1)
    # A row of few tokens leaves most of a device idle.
    busy = min(1.0, 0.1 + load.tokens / 4096)
    return load.devices * devices.peak * reached * busy / (operations * again)
