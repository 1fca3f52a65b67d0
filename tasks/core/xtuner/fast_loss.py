"""The loss of a causal model without its logits.

The last layer and the cross entropy are taken together, some rows at a time, and only where there
is something to learn: a batch's logits would be the largest tensor of all.

Part of the programs that run inside the xtuner toolchain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from . import fast_triton as triton
else:
    try:
        import fast_triton as triton
    except ImportError:  # no Triton on this machine
        triton = None

ROWS = 2048


class LinearCrossEntropy(torch.autograd.Function):  # type: ignore[misc]  # torch is not here
    """The sum of weight * cross entropy over rows; gradients are made on the way forward."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        # In units of the largest weight: float16 would lose gradients of a thousandth.
        unit = weights.max()
        weights = weights / unit
        grad = torch.empty_like(hidden)
        wanted = ctx.needs_input_grad[1]
        grad_head = torch.zeros_like(head, dtype=torch.float32) if wanted else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for start in range(0, len(hidden), ROWS):
                rows = slice(start, start + ROWS)
                logits = hidden[rows] @ head.t()
                total += cross_entropy(logits, targets[rows], weights[rows]).sum()
                torch.mm(logits, head, out=grad[rows])
                if grad_head is not None:
                    grad_head += logits.t() @ hidden[rows]
        ctx.save_for_backward(grad, grad_head, unit)
        ctx.dtype = head.dtype
        return total * unit

    @staticmethod
    def backward(ctx: Any, factor: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        grad, grad_head, unit = ctx.saved_tensors
        factor = factor * unit
        if grad_head is not None:
            grad_head = (grad_head * factor).to(ctx.dtype)
        return (grad * factor).to(grad.dtype), grad_head, None, None


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return each row's weighted loss; the logits become their own gradient."""
    if triton is not None and triton.usable(logits):
        return triton.cross_entropy(logits, targets, weights)
    chances = logits.float().log_softmax(1)
    losses = -chances.gather(1, targets[:, None])[:, 0]
    chances.exp_()[torch.arange(len(targets), device=targets.device), targets] -= 1
    logits.copy_(chances * weights[:, None])
    return losses * weights


def loss(
    hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return the weighted loss of rows (n, size) with their targets (n,)."""
    return LinearCrossEntropy.apply(hidden.to(head.dtype), head, targets, weights)
