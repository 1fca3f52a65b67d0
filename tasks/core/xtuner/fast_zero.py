"""DeepSpeed's ZeRO-3 with frozen layers taken out of its hands, and less work for what it keeps.

Part of the programs that run inside the xtuner toolchain.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed, nn

if TYPE_CHECKING:
    from . import fast_shards
else:
    import fast_shards

# Puts a device's piece where all see it, and returns everyone's, in the order of devices.
Exchange = Callable[[torch.Tensor], "fast_shards.Pieces"]


def share(modules: Sequence[nn.Module], kept: int, exchange: Exchange | None = None) -> bool:
    """Take the frozen matrices of layers from DeepSpeed, which has them in pieces; return if so.

    Devices must be of one host and see each other's memory, and layers be alike.

    Args:
        kept: how many layers stay whole from the forward to the backward pass, one at least.
    """
    frozen = [[p for p in m.parameters() if _is_frozen_matrix(p)] for m in modules]
    shapes = {tuple((p.ds_shape, p.dtype) for p in weights) for weights in frozen}
    if (
        len(shapes) != 1
        or not frozen[0]
        or not (exchange or fast_shards.see_each_other(frozen[0][0]))
    ):
        return False
    layers = []
    for weights in frozen:
        pieces = (exchange or fast_shards.show)(torch.cat([p.ds_tensor for p in weights]))
        layers.append(fast_shards.Layer(weights, pieces))
        mine = pieces[distributed.get_rank()].split(layers[-1].sizes)
        for weight, piece in zip(weights, mine, strict=True):
            weight.ds_tensor.data = piece
            weight.is_copied = True
    shards = fast_shards.Shards(layers, max(1, kept))
    shards.device.synchronize()
    distributed.barrier()
    fast_shards.follow(shards, modules)
    _relieve_deepspeed()
    return True


def _is_frozen_matrix(weight: Any) -> bool:
    piece = getattr(weight, "ds_tensor", None)
    if piece is None or weight.requires_grad or hasattr(piece, "ds_quant_scale"):
        return False
    return len(weight.ds_shape) == 2


def _relieve_deepspeed() -> None:
    """Let DeepSpeed see to the rest alone, and keep what is trained whole on every device.

    It would gather and give up adapters with each layer, and after a step one by one.
    """
    from deepspeed.runtime.zero import parameter_offload as offload
    from deepspeed.runtime.zero import partitioned_param_coordinator as coordinator
    from deepspeed.runtime.zero.stage3 import DeepSpeedZeroOptimizer_Stage3 as Optimizer
    from deepspeed.utils import z3_leaf_module

    @functools.cache
    def own(module: nn.Module, recurse: bool) -> tuple[Any, ...]:
        # Of the whole model it asks for what it is to give up for a step.
        everything = recurse and not z3_leaf_module(module)
        return tuple(
            p
            for p in module.parameters(recurse)
            if not hasattr(p, "is_copied") and not (everything and p.ds_persist)
        )

    def iter_params(module: Any, recurse: bool = False) -> Iterator[Any]:
        others = (p for _, p in module.ds_external_parameters())
        return itertools.chain(own(module, recurse), others)

    def mark(self: Any, limit: int, most: int) -> list[Any]:
        rest = (p for p in self.module.parameters() if not hasattr(p, "is_copied"))
        kept = [p for p in rest if p.requires_grad or p.ds_numel <= limit]
        for parameter in kept:
            parameter.ds_persist = True
        return kept

    original, before_checkpoint = Optimizer._post_step, Optimizer.checkpoint_event_prologue

    def after_step(self: Any, *args: Any) -> None:
        renew([p for p in self.persistent_parameters if p.requires_grad])
        original(self, *args)

    def give_up(self: Any) -> None:
        # A checkpoint holds pieces alone; what stays whole is made so again after it.
        self.persistent_parameters[0].partition(self.persistent_parameters)
        before_checkpoint(self)

    coordinator.iter_params = offload.iter_params = iter_params
    offload.DeepSpeedZeRoOffload.mark_persistent_parameters = mark
    Optimizer._post_step = after_step
    Optimizer.checkpoint_event_prologue = give_up
    Optimizer.get_grad_norm_direct = _norm


def renew(parameters: list[Any]) -> None:
    """Make trained parameters whole again out of the devices' pieces, all in one go."""
    from torch.distributed.distributed_c10d import _coalescing_manager

    count = distributed.get_world_size()
    sizes = [count * p.ds_tensor.ds_numel for p in parameters]
    first = parameters[0].ds_tensor
    wholes = torch.empty(sum(sizes), dtype=first.dtype, device=first.device).split(sizes)
    with _coalescing_manager(async_ops=True) as work:
        for parameter, whole in zip(parameters, wholes, strict=True):
            distributed.all_gather_into_tensor(whole, parameter.ds_tensor)
    work.wait()
    for parameter, whole in zip(parameters, wholes, strict=True):
        fast_shards.state(
            parameter, whole[: parameter.ds_numel].view(parameter.ds_shape), there=True
        )


def _norm(self: Any, gradients: list[torch.Tensor], params: Any, norm_type: int = 2) -> Any:
    """Return the norm of all devices' gradients at once; -1 where one is not finite."""
    parts = torch._foreach_norm(gradients, 2, dtype=torch.float32)
    total = torch.stack(parts).double().square().sum()
    distributed.all_reduce(total, group=self.dp_process_group)
    return torch.where(total.isfinite(), total.sqrt(), -1.0).float()
