"""Join CRC-32s, so that the pieces of a file may be checked side by side.

A CRC-32 is the remainder of a polynomial over the field of two elements; bits are coefficients, the
highest bit the lowest power.  Appending n bytes multiplies what was before by x to the 8n.
"""

from __future__ import annotations

from functools import cache

ONE, X = 1 << 31, 1 << 30
_POLYNOMIAL = 0xEDB88320


def joined(first: int, second: int, size: int) -> int:
    """Return the CRC-32 of two runs of bytes, the second `size` long, laid end to end."""
    return product(first, _power(8 * size)) ^ second


def product(a: int, b: int) -> int:
    """Return a * b, modulo the polynomial of CRC-32."""
    found = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            found ^= b
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return found


@cache
def _power(exponent: int) -> int:
    """Return x to some power, modulo the polynomial."""
    if not exponent:
        return ONE
    half = _power(exponent // 2)
    square = product(half, half)
    return product(square, X) if exponent % 2 else square
