"""Frozen layers that the devices of a host hold in pieces, each whole only while it computes.

DeepSpeed's ZeRO-3 gathers a layer with a kernel of NCCL's, which takes multiprocessors from the
products beside it, waits for the other devices, and lays every weight down once more.  Frozen
weights never change: each device copies the others' pieces for itself, a layer ahead, with the copy
engines, for which no product waits.  fast_zero.py says what becomes of DeepSpeed.

Part of the programs that run inside the xtuner toolchain.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn

Pieces = Sequence[torch.Tensor]
# What others see stays as long as the process.
KEPT: list[Any] = []


@dataclass(eq=False)
class Layer:
    """The frozen matrices of a layer.

    Attributes:
        pieces: of all the weights, one after the other; of each device.
        place: what they are whole in, while they are.
        ready: when they are.
    """

    weights: list[nn.Parameter]
    pieces: Pieces
    place: torch.Tensor | None = None
    ready: Any = None

    @property
    def sizes(self) -> list[int]:
        """The numbers that a device holds of each weight."""
        return [weight.ds_tensor.ds_numel for weight in self.weights]


class Shards:
    """Makes layers whole in turn: the one that computes and the one after it.

    Attributes:
        kept: how many of the last stay whole from the forward to the backward pass.

    Nobody waits on the host.  The copy for a layer waits, on the device, until what was in its
    place has been computed with; places are used again, the oldest first.
    """

    def __init__(self, layers: list[Layer], kept: int) -> None:
        self.layers = layers
        self.kept = kept
        self.device = torch.get_device_module(layers[0].pieces[0].device)
        self.beside = self.device.Stream()
        self.places: deque[tuple[torch.Tensor, Any]] = deque()

    def need(self, number: int, ahead: int) -> None:
        """Make a layer whole for what is computed next, and begin with another."""
        self._fetch(number)
        self.device.current_stream().wait_event(self.layers[number].ready)
        if 0 <= ahead < len(self.layers):
            self._fetch(ahead)

    def release(self, number: int) -> None:
        """Give up the place of a layer, once what was asked of the device has been done."""
        layer = self.layers[number]
        if layer.place is None:
            return
        self.places.append((layer.place, self.device.current_stream().record_event()))
        layer.place = None
        for weight in layer.weights:
            state(weight, torch.empty(0, dtype=weight.dtype, device=weight.device), there=False)

    def _fetch(self, number: int) -> None:
        layer = self.layers[number]
        if layer.place is not None:
            return
        with self.device.stream(self.beside):
            layer.place = self._place(layer)
            parts = (piece.split(layer.sizes) for piece in layer.pieces)
            whole = layer.place.split([len(layer.pieces) * size for size in layer.sizes])
            for weight, into, pieces in zip(
                layer.weights, whole, zip(*parts, strict=True), strict=True
            ):
                for part, piece in zip(into.chunk(len(pieces)), pieces, strict=True):
                    part.copy_(piece, non_blocking=True)
                numel, shape = weight.ds_numel, weight.ds_shape
                state(weight, into[:numel].view(shape), there=True)
            layer.ready = self.beside.record_event()

    def _place(self, layer: Layer) -> torch.Tensor:
        if not self.places:
            piece, count = layer.pieces[0], len(layer.pieces)
            return torch.empty(count * len(piece), dtype=piece.dtype, device=piece.device)
        place, free = self.places.popleft()
        self.beside.wait_event(free)
        return place


def state(weight: Any, data: torch.Tensor, *, there: bool) -> None:
    """Give a weight its numbers, or none, and tell DeepSpeed so."""
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

    weight.data = data
    weight.ds_status = ZeroParamStatus.AVAILABLE if there else ZeroParamStatus.NOT_AVAILABLE


def follow(shards: Shards, modules: Sequence[nn.Module]) -> None:
    """Let layers be whole when they compute, forward and backward."""
    for number, module in enumerate(modules):
        module.register_forward_pre_hook(functools.partial(_before, shards, number))
        module.register_forward_hook(functools.partial(_after, shards, number))


def _before(shards: Shards, number: int, module: nn.Module, args: tuple[Any, ...]) -> None:
    shards.need(number, number + 1)
    if torch.is_grad_enabled() and args[0].requires_grad:
        # Its gradient is the last that the layer's backward pass makes.
        args[0].register_hook(lambda grad: shards.release(number))


def _after(
    shards: Shards, number: int, module: nn.Module, args: tuple[Any, ...], output: Any
) -> None:
    hidden = output[0] if isinstance(output, tuple) else output
    if number + shards.kept < len(shards.layers) or not hidden.requires_grad:
        shards.release(number)
    if hidden.requires_grad:
        hidden.register_hook(lambda grad: shards.need(number, number - 1))


def see_each_other(weight: Any) -> bool:
    """Return whether all devices are of this host, and each may read what the others hold."""
    count = distributed.get_world_size()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 0)) == count <= torch.cuda.device_count()
    if count == 1 or not here or not weight.ds_tensor.is_cuda:
        return False
    return all(
        torch.cuda.can_device_access_peer(*pair) for pair in itertools.permutations(range(count), 2)
    )


def show(piece: torch.Tensor) -> Pieces:
    """Move a device's piece into memory that the others see, and return everyone's."""
    # Nothing is sent to several devices at once, which some machines cannot do.
    os.environ.setdefault("TORCH_SYMM_MEM_DISABLE_MULTICAST", "1")
    from torch.distributed import _symmetric_memory as symmetric

    mine = symmetric.empty(piece.shape, dtype=piece.dtype, device=piece.device).copy_(piece)
    seen = symmetric.rendezvous(mine, distributed.group.WORLD)
    KEPT.append((mine, seen))
    ranks = range(distributed.get_world_size())
    return [seen.get_buffer(rank, mine.shape, mine.dtype) for rank in ranks]
