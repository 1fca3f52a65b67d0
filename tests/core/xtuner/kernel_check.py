"""Compare the kernels with what they stand for; print what was found as JSON.

Runs inside the xtuner toolchain: on a GPU with Triton, elsewhere with its stand-in; test_kernels.py
judges.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).resolve()
sys.path.append(str(HERE.parents[3] / "tasks" / "core" / "xtuner"))
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPE = torch.bfloat16 if DEVICE == "cuda" else torch.float32
if DEVICE == "cpu":
    import triton_stand_in  # type: ignore[import-not-found]

    triton_stand_in.install()

import fast_triton  # type: ignore[import-not-found]  # noqa: E402

# Rows, columns, the adapter's rank: no multiples of a kernel's tiles, more than one of each.
SHAPES = [(70, 200, 8), (1100, 130, 20)]
if DEVICE == "cuda":
    SHAPES.append((13312, 4096, 64))


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape))).to(
        DEVICE, DTYPE
    )


def kept(rows: int, columns: int, p: float, seed: int) -> torch.Tensor:
    """Return which places the hash lets survive, by its definition."""
    row = torch.arange(rows, device=DEVICE)[:, None] * 0x9E3779B1 ^ seed
    for shift, factor in ((0, 1), (16, 0x7FEB352D), (15, 0x846CA68B)):
        row = times(row ^ row >> shift if shift else row, factor)
    place = row ^ row >> 16 ^ times(torch.arange(columns, device=DEVICE)[None, :], 0x85EBCA77)
    place = times(place, 0x7FEB352D)
    place = times(place ^ place >> 15, 0x846CA68B)
    return place >> 1 >= round(p * 2**31)


def times(value: torch.Tensor, factor: int) -> torch.Tensor:
    """Return a product's last 32 bits; its halves, as 64 bits have no room for it at once."""
    value = value & 0xFFFFFFFF
    return ((value >> 16) * factor % 65536 * 65536 + (value & 65535) * factor) & 0xFFFFFFFF


def apart(found: torch.Tensor, meant: torch.Tensor) -> float:
    return float((found.double() - meant.double()).norm() / meant.double().norm())


def adapters(rows: int, columns: int, r: int, p: float = 0.3, seed: int = 123456789) -> Any:
    """Return how far each kernel of the adapter's is from plain products with the mask."""
    mask = kept(rows, columns, p, seed) / (1 - p)
    x, a, inner = random(rows, columns), random(r, columns), random(rows, r)
    total = random(rows, columns)
    added = total.clone()
    fast_triton.add_up(added, inner, a, p, seed)
    return {
        "kept": float((mask > 0).double().mean()),
        "same as another seed": float((kept(rows, columns, p, 5) == (mask > 0)).double().mean()),
        "down": apart(fast_triton.down(x, a, p, seed), (x * mask) @ a.double().t().to(mask)),
        "grad": apart(fast_triton.grad_down(inner, x, p, seed), inner.t().to(mask) @ (x * mask)),
        "up": apart(added, total + (inner.to(mask) @ a.to(mask)) * mask),
    }


def cross_entropy(rows: int = 3, vocabulary: int = 9001) -> Any:
    """Return how far the loss and its gradient are from torch's; rows lie apart in memory."""
    logits = random(rows, vocabulary + 7)[:, :vocabulary]
    targets = torch.tensor([0, vocabulary - 1, 8192], device=DEVICE)
    weights = torch.tensor([0.5, 2.0, 1.0], device=DEVICE)
    wanted = logits.float().clone().requires_grad_(True)
    losses = torch.nn.functional.cross_entropy(wanted, targets, reduction="none") * weights
    losses.sum().backward()
    found = fast_triton.cross_entropy(logits, targets, weights)
    return {"loss": apart(found, losses.detach()), "grad": apart(logits, wanted.grad)}


if __name__ == "__main__":
    found = {f"adapters {shape}": adapters(*shape) for shape in SHAPES}
    print(json.dumps({**found, "cross entropy": cross_entropy(), "on": DEVICE}))
