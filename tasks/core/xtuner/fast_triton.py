"""Kernels: dropout inside the adapter's products, and the loss over a large vocabulary.

Whether a value is dropped is a hash of its place and a seed, so that no mask is ever stored.
Part of the programs that run inside the xtuner toolchain; importing it needs Triton.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# Triton would take annotations of a kernel for globals of its own language.

from __future__ import annotations

import torch
import triton
import triton.language as tl


def usable(x: torch.Tensor) -> bool:
    """Return whether a tensor is where the kernels run, and as they want it."""
    return x.is_cuda and x.dtype in (torch.bfloat16, torch.float16) and x.stride(-1) == 1


@triton.jit
def _kept(rows, columns, seed, threshold):
    """Return which places survive: a hash of row and seed, then one of that and the column."""
    row = rows.to(tl.uint32) * 0x9E3779B1 ^ seed.to(tl.uint32)
    row = (row ^ (row >> 16)) * 0x7FEB352D
    row = (row ^ (row >> 15)) * 0x846CA68B
    x = (row ^ (row >> 16) ^ (columns.to(tl.uint32) * 0x85EBCA77)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    # Compared without the sign bit: a threshold is an ordinary integer then.
    return (x >> 1).to(tl.int32) >= threshold


@triton.jit(do_not_specialize=["seed", "rows_n"])
def _down(
    x, a, out, seed, threshold, scale, rows_n, k_n, r_n,
    R: tl.constexpr, M: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0) * M + tl.arange(0, M)
    ranks = tl.arange(0, R)
    total = tl.zeros((M, R), tl.float32)
    for start in range(0, k_n, B):
        columns = start + tl.arange(0, B)
        inside = (rows[:, None] < rows_n) & (columns[None, :] < k_n)
        places = rows[:, None].to(tl.int64) * k_n + columns[None, :]
        tile = tl.load(x + places, mask=inside, other=0.0)
        tile = tl.where(_kept(rows[:, None], columns[None, :], seed, threshold), tile, 0.0)
        inner = (ranks[:, None] < r_n) & (columns[None, :] < k_n)
        low = tl.load(a + ranks[:, None] * k_n + columns[None, :], mask=inner, other=0.0)
        total += tl.dot(tile, tl.trans(low))
    where = (rows[:, None] < rows_n) & (ranks[None, :] < r_n)
    result = (total * scale).to(out.dtype.element_ty)
    tl.store(out + rows[:, None] * r_n + ranks[None, :], result, mask=where)


@triton.jit(do_not_specialize=["seed", "rows_n", "share"])
def _grad_down(
    inner, x, out, seed, threshold, scale, rows_n, k_n, r_n, share,
    R: tl.constexpr, M: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    columns = tl.program_id(0) * B + tl.arange(0, B)
    ranks = tl.arange(0, R)
    total = tl.zeros((R, B), tl.float32)
    first = tl.program_id(1) * share
    for start in range(first, tl.minimum(first + share, rows_n), M):
        rows = start + tl.arange(0, M)
        inside = (rows[:, None] < rows_n) & (columns[None, :] < k_n)
        places = rows[:, None].to(tl.int64) * k_n + columns[None, :]
        tile = tl.load(x + places, mask=inside, other=0.0)
        tile = tl.where(_kept(rows[:, None], columns[None, :], seed, threshold), tile, 0.0)
        known = (rows[:, None] < rows_n) & (ranks[None, :] < r_n)
        grad = tl.load(inner + rows[:, None] * r_n + ranks[None, :], mask=known, other=0.0)
        total += tl.dot(tl.trans(grad), tile)
    where = (ranks[:, None] < r_n) & (columns[None, :] < k_n)
    places = (tl.program_id(1) * r_n + ranks[:, None]) * k_n + columns[None, :]
    tl.store(out + places, total * scale, mask=where)


@triton.jit(do_not_specialize=["seed", "rows_n"])
def _add_up(
    total, inner, a, seed, threshold, scale, rows_n, k_n, r_n,
    R: tl.constexpr, M: tl.constexpr, B: tl.constexpr,
):  # fmt: skip
    columns = tl.program_id(0) * B + tl.arange(0, B)
    rows = tl.program_id(1) * M + tl.arange(0, M)
    ranks = tl.arange(0, R)
    known = (rows[:, None] < rows_n) & (ranks[None, :] < r_n)
    grad = tl.load(inner + rows[:, None] * r_n + ranks[None, :], mask=known, other=0.0)
    inner_places = ranks[:, None] * k_n + columns[None, :]
    low = tl.load(
        a + inner_places, mask=(ranks[:, None] < r_n) & (columns[None, :] < k_n), other=0.0
    )
    up = tl.dot(grad, low) * scale
    up = tl.where(_kept(rows[:, None], columns[None, :], seed, threshold), up, 0.0)
    inside = (rows[:, None] < rows_n) & (columns[None, :] < k_n)
    places = rows[:, None].to(tl.int64) * k_n + columns[None, :]
    old = tl.load(total + places, mask=inside, other=0.0).to(tl.float32)
    tl.store(total + places, (old + up).to(total.dtype.element_ty), mask=inside)


def down(x: torch.Tensor, a: torch.Tensor, p: float, seed: int) -> torch.Tensor:
    """Return dropout(x) A' for x (rows, k) and A (r, k)."""
    (rows, k), r = x.shape, a.shape[0]
    out = torch.empty(rows, r, dtype=x.dtype, device=x.device)
    tall = 64 if rows > 4096 else 16
    _down[(triton.cdiv(rows, tall),)](
        x, a.contiguous(), out, seed, _threshold(p), 1 / (1 - p), rows, k, r,
        R=_rank(r), M=tall, B=128, num_warps=4, num_stages=3,
    )  # fmt: skip
    return out


def grad_down(inner: torch.Tensor, x: torch.Tensor, p: float, seed: int) -> torch.Tensor:
    """Return inner' dropout(x), in float32, for inner (rows, r) and x (rows, k)."""
    (rows, k), r = x.shape, inner.shape[1]
    # Parts of the rows by themselves, summed in a fixed order: equal runs give equal gradients.
    parts = max(1, min(8, rows // 512))
    share = triton.cdiv(triton.cdiv(rows, parts), 64) * 64
    out = torch.empty(parts, r, k, dtype=torch.float32, device=x.device)
    _grad_down[(triton.cdiv(k, 128), parts)](
        inner.contiguous(), x, out, seed, _threshold(p), 1 / (1 - p), rows, k, r, share,
        R=_rank(r), M=64, B=128, num_warps=4, num_stages=3,
    )  # fmt: skip
    return out.sum(0)


def add_up(total: torch.Tensor, inner: torch.Tensor, a: torch.Tensor, p: float, seed: int) -> None:
    """Add dropout(inner A) to total (rows, k), with the mask that `down` had."""
    (rows, k), r = total.shape, a.shape[0]
    _add_up[(triton.cdiv(k, 128), triton.cdiv(rows, 64))](
        total, inner.contiguous(), a.contiguous(), seed, _threshold(p), 1 / (1 - p), rows, k, r,
        R=_rank(r), M=64, B=128, num_warps=4,
    )  # fmt: skip


def _threshold(p: float) -> int:
    return round(p * 2**31)


def _rank(r: int) -> int:
    """Return the least size that a matrix product takes."""
    return max(16, int(triton.next_power_of_2(r)))


@triton.jit
def _cross_entropy(logits, targets, weights, losses, width, V: tl.constexpr, B: tl.constexpr):
    row = tl.program_id(0)
    logits += row.to(tl.int64) * width
    high = tl.full((), -float("inf"), tl.float32)
    total = tl.full((), 0.0, tl.float32)
    for start in range(0, V, B):
        columns = start + tl.arange(0, B)
        x = tl.load(logits + columns, mask=columns < V, other=-float("inf")).to(tl.float32)
        higher = tl.maximum(high, tl.max(x))
        total = total * tl.exp(high - higher) + tl.sum(tl.exp(x - higher))
        high = higher
    target = tl.load(targets + row)
    weight = tl.load(weights + row)
    spread = high + tl.log(total)
    tl.store(losses + row, weight * (spread - tl.load(logits + target).to(tl.float32)))
    tl.debug_barrier()
    for start in range(0, V, B):
        columns = start + tl.arange(0, B)
        x = tl.load(logits + columns, mask=columns < V, other=-float("inf")).to(tl.float32)
        grad = weight * (tl.exp(x - spread) - tl.where(columns == target, 1.0, 0.0))
        tl.store(logits + columns, grad.to(logits.dtype.element_ty), mask=columns < V)


def cross_entropy(
    logits: torch.Tensor, targets: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Return each row's weighted loss; the logits become their own gradient."""
    rows, vocabulary = logits.shape
    losses = torch.empty(rows, dtype=torch.float32, device=logits.device)
    _cross_entropy[(rows,)](
        logits, targets, weights, losses, logits.stride(0), V=vocabulary, B=8192, num_warps=16
    )
    return losses
