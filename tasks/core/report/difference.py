"""What differs between two answers, word by word."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

# A character of a script that writes no blanks, a word, or another sign, each with the blanks
# that follow: blanks by themselves are alike everywhere and tell nothing.
WORD = re.compile(
    r"(?:[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s])\s*|\s+"
)
# Above so many comparisons of words, lines are compared.
MOST = 100_000
# Answers that share less than this have nothing to do with each other; then all of it differs.
ALIKE = 0.3

# Pieces of a text, in order: (text, whether it is only in this one).
Pieces = list[tuple[str, bool]]


def pieces(left: str, right: str) -> tuple[Pieces, Pieces]:
    """Return both texts in pieces."""
    if left == right:
        return [(left, False)], [(right, False)]
    one, other = _split(left, right)
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    if matcher.ratio() < ALIKE:
        return [(left, bool(left))], [(right, bool(right))]
    found: tuple[Pieces, Pieces] = ([], [])
    for kind, start, end, from_, to in matcher.get_opcodes():
        _add(found[0], one[start:end], changed=kind != "equal")
        _add(found[1], other[from_:to], changed=kind != "equal")
    return found


def _split(left: str, right: str) -> tuple[list[str], list[str]]:
    one, other = WORD.findall(left), WORD.findall(right)
    if len(one) * len(other) <= MOST:
        return one, other
    return left.splitlines(keepends=True), right.splitlines(keepends=True)


def _add(found: Pieces, words: Sequence[str], *, changed: bool) -> None:
    """Add words; the blanks after what is changed are not."""
    text = "".join(words)
    end = len(text.rstrip()) if changed else 0
    found += [(text[:end], True)] if end else []
    found += [(text[end:], False)] if text[end:] else []
