"""Cut plain texts into pieces that fit into a sample; xtuner would drop what is over.

Part of the program convert.py, which runs inside the xtuner toolchain.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# Room for the token that a sample begins with, and for a piece's tokens when it stands alone.
SPARE = 8
# Characters that are put to the tokenizer at once, so that a book needs no more memory than a page.
BLOCK = 1 << 20


def cut(text: str, encoder: Any, most: int) -> Iterator[str]:
    """Yield a text's pieces, each of at most about `most` tokens, cut where words end.

    Args:
        encoder: a tokenizer of `tokenizers`.
    """
    for block in blocks(text):
        yield from cut_block(block, encoder, max(1, most - SPARE))


def blocks(text: str) -> Iterator[str]:
    """Yield a text in parts that are cut where words end."""
    start = 0
    while len(text) - start > BLOCK:
        stop = end_of_word(text, start, start + BLOCK)
        yield text[start:stop]
        start = stop
    yield text[start:]


def cut_block(text: str, encoder: Any, limit: int) -> Iterator[str]:
    """Yield the pieces of a part."""
    ends = [end for _, end in encoder.encode(text, add_special_tokens=False).offsets]
    first, start = 0, 0
    while len(ends) - first > limit:
        stop = end_of_word(text, start, max(ends[first + limit - 1], start + 1))
        yield text[start:stop]
        start = stop
        while first < len(ends) and ends[first] <= start:
            first += 1
    if text[start:].strip():
        yield text[start:]


def end_of_word(text: str, start: int, stop: int) -> int:
    """Return the last place to cut before `stop`: a paragraph's end, a line's, or a word's."""
    for mark in ("\n\n", "\n", " "):
        # In the second half, or the pieces would be small.
        at = text.rfind(mark, (start + stop) // 2, stop)
        if at > start:
            return at + len(mark)
    return stop
