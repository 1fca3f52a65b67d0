"""Widen numbers to float32 and round them back, once and to the nearest, ties to even.

Imported by actions only: it loads numpy.  float16 is converted by hand where that is exact, as
numpy's own conversion takes three times as long; bfloat16 numpy does not know.
"""

from __future__ import annotations

from typing import Any

from .onethread import NDArray, np

Floats = NDArray[np.float32]
Bytes = bytes | bytearray | memoryview

# float32's exponent is 112 more than float16's.
_REBIAS = 112 << 23
_NORMAL = 113 << 23  # 2**-14, the least number that float16 holds in full
_TOO_BIG = 0x477FF000  # 65520, the least that rounds to infinity

FLOATS = ("F32", "F16", "BF16")


def widen(raw: Bytes, dtype: str, out: Floats | None = None) -> Floats:
    """Return the numbers in some bytes as float32, exactly, in `out` if it is given."""
    if dtype == "F32":
        found: Floats = np.frombuffer(raw, np.float32)
        return _into(found, out)
    narrow: NDArray[np.uint16] = np.frombuffer(raw, np.uint16)
    if dtype == "F16":
        return _widen_half(narrow, out)
    wide = _room(narrow.size, out)
    bits = wide.view(np.uint32)
    np.copyto(bits, narrow)
    bits <<= 16
    return wide


def narrow(numbers: Floats, dtype: str) -> NDArray[Any]:
    """Return float32 numbers rounded to a type, as that type's bits; `numbers` is spent."""
    flat = numbers.reshape(-1)
    return {"F32": _same, "F16": _to_half, "BF16": _to_brain}[dtype](flat)


def odd(raw: Bytes, dtype: str) -> NDArray[np.bool_]:
    """Return which numbers are NaN or infinite."""
    if dtype == "F32":
        bits: NDArray[Any] = np.frombuffer(raw, np.uint32)
        return np.asarray((bits & 0x7F800000) == 0x7F800000)
    half = np.frombuffer(raw, np.uint16)
    mask = {"F16": 0x7C00, "BF16": 0x7F80}[dtype]
    return np.asarray((half & np.uint16(mask)) == mask)


def has_odd(bits: NDArray[Any], dtype: str) -> bool:
    """Return whether any number, out of `narrow`, is NaN or infinite."""
    if not bits.size:
        return False
    if dtype == "F32":
        return not bool(np.isfinite(bits.view(np.float32)).all())
    limit = {"F16": 0x7C00, "BF16": 0x7F80}[dtype]
    return int((bits & np.uint16(0x7FFF)).max()) >= limit


def _room(size: int, out: Floats | None) -> Floats:
    return np.empty(size, np.float32) if out is None else out.reshape(-1)[:size]


def _into(found: Floats, out: Floats | None) -> Floats:
    if out is None:
        return found
    place = _room(found.size, out)
    place[:] = found
    return place


def _widen_half(half: NDArray[np.uint16], out: Floats | None) -> Floats:
    """Put the bits in float32's places and let a product correct the exponent; it is exact."""
    wide = _room(half.size, out)
    bits = wide.view(np.uint32)
    np.copyto(bits, half)
    sign = bits & np.uint32(0x8000)
    bits &= np.uint32(0x7FFF)
    if bits.size and int(bits.max()) >= 0x7C00:
        wide[:] = half.view(np.float16)
        return wide
    bits <<= 13
    wide *= np.float32(2.0**112)
    sign <<= 16
    bits |= sign
    return wide


def _same(flat: Floats) -> NDArray[Any]:
    return flat.view(np.uint32)


def _to_brain(flat: Floats) -> NDArray[Any]:
    bits = flat.view(np.uint32)
    with np.errstate(all="ignore"):
        nan = None if np.isfinite(flat.sum()) else np.isnan(flat)
    carry = bits >> np.uint32(16)
    carry &= np.uint32(1)
    carry += np.uint32(0x7FFF)
    carry += bits
    carry >>= np.uint32(16)
    found: NDArray[Any] = carry.astype(np.uint16)
    if nan is not None:
        # Rounding could carry a NaN into the sign.
        found[nan] = ((bits[nan] >> np.uint32(16)) | np.uint32(0x40)).astype(np.uint16)
    return found


def _to_half(flat: Floats) -> NDArray[Any]:
    bits = flat.view(np.uint32)
    size = bits & np.uint32(0x7FFFFFFF)
    shifted = size - np.uint32(_NORMAL)
    # One comparison for both ends: what is below wraps around to the top.
    rest = np.flatnonzero(shifted >= np.uint32(_TOO_BIG - _NORMAL))
    by_hand = flat[rest]
    carry = np.right_shift(size, np.uint32(13), out=shifted)
    carry &= np.uint32(1)
    carry += np.uint32((0xFFF - _REBIAS) & 0xFFFFFFFF)
    size += carry
    size >>= np.uint32(13)
    sign = np.right_shift(bits, np.uint32(16), out=carry)
    sign &= np.uint32(0x8000)
    size |= sign
    found: NDArray[Any] = size.astype(np.uint16)
    if rest.size:
        with np.errstate(over="ignore"):
            found[rest] = by_hand.astype(np.float16).view(np.uint16)
    return found
