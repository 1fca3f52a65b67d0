"""Attention over conversations that lie end to end in one row, each by itself.

transformers calls the function that its registry has; ours takes the place of "sdpa" there.  With
lengths known it attends within each conversation only, through torch's own variable-length kernel,
or conversation by conversation where that does not run.  Without, it is transformers' own.

Part of the programs that run inside the xtuner toolchain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True)
class Lengths:
    """Where conversations begin and end in a row.

    Attributes:
        ends: the running sum of their lengths, from 0, on the device.
        spans: the same lengths, on the host.
    """

    ends: torch.Tensor
    spans: tuple[int, ...]


_lengths: list[Lengths | None] = [None]


def lay(lengths: Lengths | None) -> None:
    """Say how the next rows are made up; it holds for their backward pass too."""
    _lengths[0] = lengths


def install() -> None:
    """Take the place of transformers' "sdpa", once."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    original = ALL_ATTENTION_FUNCTIONS["sdpa"]
    if original.__module__ == __name__:
        return

    def attend(
        module: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        sliding_window: int | None = None,
        **rest: Any,
    ) -> tuple[torch.Tensor, None]:
        lengths = _lengths[0] if module.training else None
        if lengths is None:
            options = {**rest, "sliding_window": sliding_window}
            found: tuple[torch.Tensor, None] = original(
                module, query, key, value, attention_mask, dropout, scaling, **options
            )
            return found
        return packed(query, key, value, lengths, scaling, sliding_window), None

    ALL_ATTENTION_FUNCTIONS["sdpa"] = attend


def mask_nothing(model: nn.Module) -> None:
    """Spare a model in training the mask of tokens by tokens that `packed` has no use for."""
    for module in model.modules():
        original = getattr(module, "_update_causal_mask", None)
        if original is not None:
            module._update_causal_mask = partial(_mask, module, original)


def _mask(module: nn.Module, original: Any, *args: Any, **options: Any) -> Any:
    return None if module.training and _lengths[0] else original(*args, **options)


def packed(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: Lengths,
    scaling: float | None = None,
    window: int | None = None,
) -> torch.Tensor:
    """Return causal attention within each conversation.

    Args:
        query, key, value: (1, heads, tokens, size); key and value may have fewer heads.
        window: how many tokens back a token sees; None is all.

    Returns:
        (1, tokens, heads, size)
    """
    longest = max(lengths.spans)
    reach = window if window and window < longest else None
    if flash_runs(query):
        return _varlen(query, key, value, lengths, scaling, reach)
    groups = query.shape[1] // key.shape[1]
    parts = []
    for q, k, v in zip(*(t.split(lengths.spans, dim=2) for t in (query, key, value)), strict=True):
        mask = None if reach is None else _band(q.shape[2], reach, q.device)
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
        parts.append(
            scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, scale=scaling)
        )
    return torch.cat(parts, dim=2).transpose(1, 2)


def flash_runs(query: torch.Tensor) -> bool:
    """Return whether torch's flash kernel takes it: 16 bits, narrow heads, Ampere or newer."""
    if not query.is_cuda or query.dtype == torch.float32 or query.shape[-1] > 256:
        return False
    return bool(torch.cuda.get_device_capability(query.device) >= (8, 0))


def _varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    lengths: Lengths,
    scaling: float | None,
    reach: int | None,
) -> torch.Tensor:
    """Call the flash kernel that torch brings; it takes fewer key heads than query heads as is."""
    longest = max(lengths.spans)
    # squeeze, not [0]: the gradient of an index is a copy into zeros.
    flat = [t.squeeze(0).transpose(0, 1) for t in (query, key, value)]
    window = {"window_size_left": reach - 1, "window_size_right": 0} if reach else {}
    found = torch.ops.aten._flash_attention_forward(
        *flat, lengths.ends, lengths.ends, longest, longest, 0.0, True, False,
        scale=scaling, **window,
    )  # fmt: skip
    return found[0].unsqueeze(0)


def _band(size: int, reach: int, device: torch.device) -> torch.Tensor:
    """Return which tokens see which: those before, as far as the window reaches."""
    there = torch.arange(size, device=device)
    back = there[:, None] - there[None, :]
    return (back >= 0) & (back < reach)
