"""Two answers, word by word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.report import difference
from tasks.core.report.difference import Pieces

TEXT = st.text("ab \n\"{}:,中文é'_", max_size=40)


def only_here(pieces: Pieces) -> list[str]:
    return [text for text, differs in pieces if differs]


@pytest.mark.parametrize(
    ("left", "right", "before", "after"),
    [
        ("the same words", "the same words", [], []),
        ("call mail now", "call search now", ["mail"], ["search"]),
        ('{"day": "Monday"}', '{"day": "Friday"}', ["Monday"], ["Friday"]),
        ("a b c d e f", "a b x y e f", ["c d"], ["x y"]),
        ("今天天气很好", "今天天气不好", ["很"], ["不"]),
        ("one", "two three", ["one"], ["two three"]),
        ("", "new", [], ["new"]),
    ],
)
def test_what_differs_is_marked_on_both_sides(
    left: str, right: str, before: list[str], after: list[str]
) -> None:
    found = difference.pieces(left, right)

    assert (only_here(found[0]), only_here(found[1])) == (before, after)


@given(TEXT, TEXT)
def test_no_letter_is_lost_and_unmarked_parts_are_alike(left: str, right: str) -> None:
    one, other = difference.pieces(left, right)

    assert "".join(text for text, _ in one) == left
    assert "".join(text for text, _ in other) == right


def test_long_answers_are_compared_by_lines() -> None:
    lines = [f"line {number}\n" for number in range(2000)]
    changed = [*lines[:500], "another line\n", *lines[501:]]

    one, other = difference.pieces("".join(lines), "".join(changed))

    assert only_here(one) == ["line 500"]
    assert only_here(other) == ["another line"]
