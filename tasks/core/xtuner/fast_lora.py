"""A linear layer with its adapter, without PEFT's copies.

PEFT keeps, for every linear layer, its input once more in the adapter's dtype, what dropout left of
it, and the mask.  Here the input is kept once, as it is; the mask is made again from its seed when
it is needed.  Masks stay independent from layer to layer, as PEFT has them.

Part of the programs that run inside the xtuner toolchain.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from . import fast_triton as triton
else:
    try:
        import fast_triton as triton
    except ImportError:  # no Triton on this machine
        triton = None


class LoraLinear(torch.autograd.Function):  # type: ignore[misc]  # torch is not here
    """x W' + bias + scaling * dropout(x) A' B', where W is frozen and may be 4-bit."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scaling: float,
        p: float,
    ) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        # From the generator that checkpointing restores, so that a second forward drops the same.
        seed = int(torch.randint(2**31, ())) if p else 0
        out = nn.functional.linear(flat, dense(weight, x.dtype), bias)
        low = down(flat, a.to(x.dtype), p, seed)
        out.addmm_(low, (b * scaling).to(x.dtype).t())
        ctx.save_for_backward(flat, low, a, b)
        ctx.weight, ctx.scaling, ctx.p, ctx.seed = weight, scaling, p, seed
        return out.view(*x.shape[:-1], out.shape[-1])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, low, a, b = ctx.saved_tensors
        p, seed = ctx.p, ctx.seed
        flat = grad.reshape(-1, grad.shape[-1])
        inner = flat @ (b * ctx.scaling).to(x.dtype)
        grad_b = (flat.t() @ low).to(b.dtype) * ctx.scaling
        grad_a = grad_down(inner, x, p, seed).to(a.dtype)
        if not ctx.needs_input_grad[0]:
            return None, None, None, grad_a, grad_b, None, None
        grad_x = flat @ dense(ctx.weight, x.dtype)
        add_up(grad_x, inner, a.to(x.dtype), p, seed)
        grad_x = grad_x.view(*grad.shape[:-1], x.shape[-1])
        return grad_x, None, None, grad_a, grad_b, None, None


def down(x: torch.Tensor, a: torch.Tensor, p: float, seed: int) -> torch.Tensor:
    """Return dropout(x) A'."""
    if p and fused(x):
        return triton.down(x, a, p, seed)
    return dropped(x, p, seed) @ a.t()


def grad_down(inner: torch.Tensor, x: torch.Tensor, p: float, seed: int) -> torch.Tensor:
    """Return the gradient of A: inner' dropout(x)."""
    if p and fused(x):
        return triton.grad_down(inner, x, p, seed)
    return inner.t() @ dropped(x, p, seed)


def add_up(total: torch.Tensor, inner: torch.Tensor, a: torch.Tensor, p: float, seed: int) -> None:
    """Add dropout(inner A) to the gradient of x, with the mask that x had."""
    if not p:
        total.addmm_(inner, a)
    elif fused(total):
        triton.add_up(total, inner, a, p, seed)
    else:
        total += dropped(inner @ a, p, seed)


def dropped(x: torch.Tensor, p: float, seed: int) -> torch.Tensor:
    """Return x with a share of its values dropped and the rest scaled; the same for equal seeds."""
    if not p:
        return x
    generator = torch.Generator(x.device).manual_seed(seed)
    return torch.empty_like(x).bernoulli_(1 - p, generator=generator).mul_(x).div_(1 - p)


def fused(x: torch.Tensor) -> bool:
    """Return whether the kernels can have it."""
    return triton is not None and triton.usable(x)


def dense(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a weight as a matrix; 4-bit ones are unpacked for as long as they are needed."""
    state = getattr(weight, "quant_state", None)
    if state is None:
        return weight if weight.dtype == dtype else weight.to(dtype)
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, state).to(dtype)


def quicken(model: nn.Module) -> int:
    """Let PEFT's linear layers compute as above, where they are plain; return how many do."""
    count = 0
    for module in model.modules():
        if plain(module):
            module.forward = types.MethodType(forward, module)
            count += 1
    return count


def plain(module: nn.Module) -> bool:
    """Return whether a module is a linear layer of PEFT's with just one ordinary adapter."""
    adapters = getattr(module, "lora_A", None)
    base = getattr(module, "base_layer", None)
    return (
        isinstance(adapters, nn.ModuleDict)
        and list(adapters) == list(module.active_adapters)
        and len(adapters) == 1
        and type(base).__name__ in ("Linear", "Linear4bit")
        and not getattr(module, "lora_variant", None)
        and not getattr(module, "fan_in_fan_out", False)
        and not any(getattr(module, "lora_bias", {}).values())
    )


def forward(self: Any, x: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
    """Compute a layer; what is out of the ordinary goes to PEFT's own forward."""
    if self.merged or self.disable_adapters or rest or options or autocasts(x):
        return type(self).forward(self, x, *rest, **options)
    (name,) = self.lora_A
    base, dropout = self.base_layer, self.lora_dropout[name]
    p = dropout.p if self.training and isinstance(dropout, nn.Dropout) else 0.0
    a, b = self.lora_A[name].weight, self.lora_B[name].weight
    return LoraLinear.apply(x, base.weight, base.bias, a, b, self.scaling[name], p)


def autocasts(x: torch.Tensor) -> bool:
    """Return whether dtypes are chosen operation by operation."""
    return bool(torch.is_autocast_enabled(x.device.type))
