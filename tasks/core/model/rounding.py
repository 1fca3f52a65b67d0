"""Widen numbers to float32 and round them back, once and to the nearest, ties to even.

Imported by actions only: it loads numpy.  float16 is converted by hand where that is exact, as
numpy's own conversion takes three times as long; bfloat16 numpy does not know.
"""

from __future__ import annotations

from typing import Any

from .onethread import NDArray, np

Floats = NDArray[np.float32]
Bits = NDArray[Any]

# float32's exponent is 112 more than float16's.
_REBIAS = 112 << 23
_NORMAL = 113 << 23  # 2**-14, the least number that float16 holds in full
_TOO_BIG = 0x477FF000  # 65520, the least that rounds to infinity

FLOATS = ("F32", "F16", "BF16")
# Squares with a smaller sum are of numbers that every type holds, and of no NaN.
_SMALL = 1e9


def bits(raw: bytes | bytearray | memoryview, dtype: str) -> Bits:
    """Return some bytes as the bits of numbers, one element each; it is the same memory."""
    return np.frombuffer(raw, np.uint32 if dtype == "F32" else np.uint16)


def widen(narrow: Bits, dtype: str, out: Floats | None = None) -> Floats:
    """Return numbers as float32, exactly, in `out` if it is given."""
    wide = np.empty(narrow.shape, np.float32) if out is None else out
    if dtype == "F32":
        np.copyto(wide, narrow.view(np.float32))
    elif dtype == "F16":
        _widen_half(narrow, wide)
    else:
        place = wide.view(np.uint32)
        np.copyto(place, narrow)
        place <<= np.uint32(16)
    return wide


def narrow(numbers: Floats, dtype: str, out: Bits, spare: Floats | None = None) -> bool:
    """Round float32 numbers to a type and put that type's bits into `out`; `numbers` is spent.

    Args:
        spare: as many numbers, which nobody needs any more: memory to compute in.

    Returns whether they are so small that none of those bits can be NaN or infinity.
    """
    flat = numbers.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        small = bool(np.dot(flat, flat) < _SMALL)
    room = np.empty(numbers.shape, np.uint32) if spare is None else spare.view(np.uint32)
    {"F32": _same, "F16": _to_half, "BF16": _to_brain}[dtype](numbers, out, room)
    if dtype == "BF16" and not small:
        _keep_nan(numbers, out)
    return small


def odd(bits: Bits, dtype: str) -> NDArray[np.bool_]:
    """Return which numbers are NaN or infinite."""
    mask = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}[dtype]
    return np.asarray((bits & bits.dtype.type(mask)) == mask)


def has_odd(bits: Bits, dtype: str) -> bool:
    """Return whether any number is NaN or infinite."""
    if not bits.size:
        return False
    if dtype == "F32":
        return not bool(np.isfinite(bits.view(np.float32)).all())
    limit = {"F16": 0x7C00, "BF16": 0x7F80}[dtype]
    return int((bits & np.uint16(0x7FFF)).max()) >= limit


def _widen_half(half: Bits, wide: Floats) -> None:
    """Put the bits in float32's places and let a product correct the exponent; it is exact."""
    place = wide.view(np.uint32)
    np.copyto(place, half)
    sign = place & np.uint32(0x8000)
    place &= np.uint32(0x7FFF)
    if place.size and int(place.max()) >= 0x7C00:
        np.copyto(wide, half.view(np.float16))
        return
    place <<= np.uint32(13)
    wide *= np.float32(2.0**112)
    sign <<= np.uint32(16)
    place |= sign


def _same(numbers: Floats, out: Bits, room: Bits) -> None:
    np.copyto(out, numbers.view(np.uint32))


def _to_brain(numbers: Floats, out: Bits, room: Bits) -> None:
    bits = numbers.view(np.uint32)
    carry = np.right_shift(bits, np.uint32(16), out=room)
    carry &= np.uint32(1)
    carry += np.uint32(0x7FFF)
    carry += bits
    carry >>= np.uint32(16)
    np.copyto(out, carry, casting="unsafe")


def _keep_nan(numbers: Floats, out: Bits) -> None:
    """Mend what rounding to bfloat16 made of NaN, whose carry may have reached the sign."""
    nan = np.isnan(numbers)
    out[nan] = (numbers.view(np.uint32)[nan] >> np.uint32(16)) | np.uint32(0x40)


def _to_half(numbers: Floats, out: Bits, room: Bits) -> None:
    bits = numbers.view(np.uint32)
    size = np.bitwise_and(bits, np.uint32(0x7FFFFFFF), out=room)
    shifted = size - np.uint32(_NORMAL)
    # One comparison for both ends: what is below wraps around to the top.
    rest = np.nonzero(shifted >= np.uint32(_TOO_BIG - _NORMAL))
    carry = np.right_shift(size, np.uint32(13), out=shifted)
    carry &= np.uint32(1)
    carry += np.uint32((0xFFF - _REBIAS) & 0xFFFFFFFF)
    size += carry
    size >>= np.uint32(13)
    sign = np.right_shift(bits, np.uint32(16), out=carry)
    sign &= np.uint32(0x8000)
    size |= sign
    np.copyto(out, size, casting="unsafe")
    if rest[0].size:
        with np.errstate(over="ignore"):
            out[rest] = numbers[rest].astype(np.float16).view(np.uint16)
