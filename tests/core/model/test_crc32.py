"""CRC-32s of pieces, joined."""

from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st

from tasks.core.model import crc32


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_pieces_have_the_checksum_of_the_whole(pieces: list[bytes]) -> None:
    joined = 0
    for piece in pieces:
        joined = crc32.joined(joined, zlib.crc32(piece), len(piece))
    assert joined == zlib.crc32(b"".join(pieces))


@given(*[st.integers(0, 2**32 - 1)] * 3, st.integers(0, 2**40), st.integers(0, 2**40))
def test_it_does_not_matter_what_is_joined_first(a: int, b: int, c: int, n: int, m: int) -> None:
    first = crc32.joined(crc32.joined(a, b, n), c, m)
    assert first == crc32.joined(a, crc32.joined(b, c, m), n + m)
