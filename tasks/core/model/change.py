"""The arithmetic of a merge: W + scale * (B @ A) in float32, rounded once to the base's type.

Imported by actions only: it loads numpy.  DoRA scales the sum so that each output has the length
that was learned (https://arxiv.org/abs/2402.09353); the rest is as PEFT's layers have it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..errors import UserError
from . import rounding
from .lora import Factors
from .onethread import NDArray, np
from .rounding import FLOATS, Bits, Floats
from .tensors import Tensor, read, read_into

# So many numbers are worked on at a time that they stay in a processor's own cache.
TILE = 1 << 17
# Products of fewer columns at a time lose more than they win.
NARROWEST = 256
# Bytes of the base that are read at a time where only lengths are wanted.
SPAN = 4 << 20


@dataclass(frozen=True)
class Change:
    """How one weight of the base becomes the merged one.

    Attributes:
        base: the weight, whose type is kept.
        start: what is added to; the base's weight unless the adapter brings its own.
        scale: what B @ A is multiplied by.
        across: whether the weight is stored as inputs by outputs.
    """

    base: Tensor
    start: Tensor
    factors: Factors
    scale: float
    across: bool
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False)
    _columns: list[Floats] = field(default_factory=list, compare=False)

    def fill(self, first: int, last: int, room: memoryview) -> None:
        """Put some rows of the merged weight into memory, in the base's type."""
        merged = rounding.bits(room, self.base.dtype).reshape(-1, self.base.shape[1])
        if self.start.dtype == self.base.dtype:
            # Each tile is read before it is written, so the same memory serves for both.
            read_into(self.start, first, last, room)
            before = merged
        else:
            before = self._read(first, last)
        factor = self._factor(first, last, before)
        small = True
        for rows, columns, block, spare in self._tiles(first, before):
            if factor is not None:
                block *= factor[rows, columns]
            small &= rounding.narrow(block, self.base.dtype, merged[rows, columns], spare)
        if not small:
            check_sound(room, self.base, first, last, self.factors.a)

    def _read(self, first: int, last: int) -> Bits:
        found = rounding.bits(read(self.start, first, last), self.start.dtype)
        return found.reshape(last - first, -1)

    def _tiles(self, first: int, before: Bits) -> Iterator[tuple[slice, slice, Floats, Floats]]:
        """Yield the sum in tiles, each with its place among the rows, and as much spare memory."""
        height, width = before.shape
        left, right, scale = self._parts(first, height)
        step = min(width, max(NARROWEST, TILE // height))
        room = np.empty((2, height * step), np.float32)
        for start in range(0, width, step):
            rows, columns = slice(0, height), slice(start, min(start + step, width))
            tile = before[:, columns]
            weight, delta = (part[: tile.size].reshape(tile.shape) for part in room)
            rounding.widen(tile, self.start.dtype, weight)
            np.matmul(left, right[:, columns], out=delta)
            if scale != 1:
                delta *= scale
            weight += delta
            yield rows, columns, weight, delta

    def _parts(self, first: int, height: int) -> tuple[Floats, Floats, np.float32]:
        """Return whose product some rows of the change are, and what it is still scaled by.

        A power of two is exact wherever it is multiplied, and costs least before the product.
        """
        a, b, scale = floats(self.factors.a), floats(self.factors.b), np.float32(self.scale)
        left, right = (a.T, b.T) if self.across else (b, a)
        left = left[first : first + height]
        if np.frexp(scale)[0] == 0.5:
            return left * scale, right, np.float32(1)
        return left, right, scale

    def _factor(self, first: int, last: int, before: Bits) -> Floats | None:
        """Return what DoRA multiplies each number of some rows by: magnitude / length."""
        if self.factors.magnitude is None:
            return None
        magnitude = floats(self.factors.magnitude).reshape(-1)
        if self.across:
            with self._lock:
                if not self._columns:
                    self._columns.append(_ratio(magnitude, self._lengths()))
            return np.broadcast_to(self._columns[0], before.shape)
        squares = np.zeros(last - first)
        for rows, _, block, _ in self._tiles(first, before):
            squares[rows] += np.einsum("ij,ij->i", block, block, dtype=np.float64)
        factor = _ratio(magnitude[first:last], np.sqrt(squares))
        return np.broadcast_to(factor[:, None], before.shape)

    def _lengths(self) -> NDArray[np.float64]:
        """Return the length of each column, for which all rows are read."""
        squares = np.zeros(self.base.shape[1])
        step = max(1, SPAN // self.start.row_size)
        for first in range(0, self.start.rows, step):
            before = self._read(first, min(self.start.rows, first + step))
            for _, columns, block, _ in self._tiles(first, before):
                squares[columns] += np.einsum("ij,ij->j", block, block, dtype=np.float64)
        return np.sqrt(squares)


@functools.lru_cache(maxsize=64)
def floats(tensor: Tensor) -> Floats:
    """Return a tensor of an adapter as float32; the last few are kept, as all rows need them.

    Raises:
        UserError: it holds NaN or infinity, or is no tensor of floats.
    """
    if tensor.dtype not in FLOATS:
        raise UserError(f"{tensor.where}: {tensor.dtype} is no type of an adapter")
    found = rounding.widen(rounding.bits(read(tensor), tensor.dtype), tensor.dtype)
    if not np.isfinite(found).all():
        raise UserError(
            f"{tensor.where}: holds NaN or infinity: training diverged; take an earlier checkpoint"
        )
    return found.reshape(tensor.shape)


def check_sound(room: memoryview, base: Tensor, first: int, last: int, source: Tensor) -> None:
    """Refuse rows with a NaN or infinity that the base has not.

    Raises:
        UserError: there is one; it names the tensor that was added, and the base's.
    """
    bits = rounding.bits(room, base.dtype)
    if rounding.has_odd(bits, base.dtype):
        before = rounding.bits(read(base, first, last), base.dtype)
        if (rounding.odd(bits, base.dtype) & ~rounding.odd(before, base.dtype)).any():
            raise UserError(
                f"{source.where}: makes {base.name} NaN or infinite in {base.dtype}: training "
                "diverged, or the numbers are too large for that type"
            )


def _ratio(magnitude: Floats, length: NDArray[np.float64]) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(magnitude / length, np.float32)
