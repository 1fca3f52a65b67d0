"""Shares and how sure they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.evaluation import scores
from tasks.core.evaluation.prompts import Call, Prompt, Turn
from tasks.core.evaluation.toolcall import Verdict

VALID = Verdict(called=True, tool=True, parsed=True, valid=True)
WRONG = Verdict(called=True, tool=True, parsed=True, valid=False)
BROKEN = Verdict(called=True, tool=True, parsed=False, valid=False)
NONE = Verdict(called=False, tool=True, parsed=False, valid=True)


def prompt(*tools: str, group: str = "") -> Prompt:
    calls = [Call(tool, {}) for tool in tools]
    return Prompt([Turn([{"role": "user", "content": "?"}], calls)], group)


def test_shares_count_the_prompts_without_a_group() -> None:
    prompts = [prompt("a"), prompt("a"), prompt("b"), prompt(), prompt("a", group="unseen")]
    assert scores.scores(prompts, [VALID, BROKEN, WRONG, NONE, BROKEN]) == {
        "prompts": 4,
        "tool_call_valid": 0.5,
        "tool_called": 0.75,
        "tool_right": 1.0,
        "arguments_json": 0.5,
        "intervals": {
            "tool_call_valid": [0.15, 0.85],
            "tool_called": [0.3006, 0.9544],
            "tool_right": [0.5101, 1.0],
            "arguments_json": [0.15, 0.85],
        },
        "by_tool": {"a": 0.5, "b": 0.0, "none": 1.0},
        "tools": {
            "a": {"prompts": 2, "tool_call_valid": 0.5, "interval": [0.0945, 0.9055]},
            "b": {"prompts": 1, "tool_call_valid": 0.0, "interval": [0.0, 0.7935]},
            "none": {"prompts": 1, "tool_call_valid": 1.0, "interval": [0.2065, 1.0]},
        },
        "apart": {"unseen": {"prompts": 1, "valid": 0.0}},
    }


def test_a_prompt_that_wants_two_tools_counts_for_both() -> None:
    found = scores.scores([prompt("a", "b"), prompt("b")], [WRONG, VALID])
    assert found["by_tool"] == {"a": 0.0, "b": 0.5}


def test_no_prompts_are_no_success() -> None:
    found = scores.scores([], [])
    assert found["tool_call_valid"] == 0.0
    assert found["intervals"]["tool_call_valid"] == [0.0, 1.0]


# From Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
@pytest.mark.parametrize(
    ("right", "count", "expected"),
    [
        (81, 263, [0.2553, 0.3662]),
        (15, 148, [0.0624, 0.1605]),
        (0, 20, [0.0, 0.1611]),
        (1, 29, [0.0061, 0.1718]),
    ],
)
def test_the_interval_is_wilson_s(right: int, count: int, expected: list[float]) -> None:
    assert scores.interval(right, count) == expected


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_stays_a_share(case: tuple[int, int]) -> None:
    right, count = case
    low, high = scores.interval(right, count)
    assert 0 <= low <= round(right / count, 4) <= high <= 1


def test_a_difference_is_told_of_the_same_prompts() -> None:
    before, after = [False] * 60 + [True] * 40, [True] * 90 + [False] * 10
    by, (low, high) = scores.difference(before, after)
    assert by == 0.5
    assert 0.3 < low < by < high < 0.7


def test_two_equal_models_may_still_differ_by_a_little() -> None:
    by, (low, high) = scores.difference([True, False, True], [True, False, True])
    assert by == 0.0
    assert low < 0 < high


def test_a_difference_of_nothing_is_unknown() -> None:
    assert scores.difference([], []) == (0.0, [-1.0, 1.0])
