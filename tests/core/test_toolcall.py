"""Tool calls: what counts as valid, and how shares are counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core import toolcall
from tasks.core.toolcall import Prompt, Verdict


def prompt(tool: str | None, arguments: dict[str, Any] | None = None, group: str = "") -> Prompt:
    return Prompt([{"role": "user", "content": "?"}], tool, arguments or {}, group)


WEATHER = prompt("weather", {"city": "Graz", "days": 1})
RIGHT = 'Action: weather\nAction Input: {"city": "Graz", "days": 1}'
VALID = Verdict(called=True, tool=True, parsed=True, valid=True)
WRONG = Verdict(called=True, tool=True, parsed=True, valid=False)
BROKEN = Verdict(called=True, tool=True, parsed=False, valid=False)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (RIGHT, VALID),
        (f"I will look.\n{RIGHT}\n", VALID),
        ('Action: weather\nAction Input: {"days": 1, "city": "Graz"}', VALID),
        ('Action:weather \nAction Input:\n{"city": "Graz",\n "days": 1.0}', VALID),
        ('Action: weather\nAction Input: {"city": "Wien", "days": 1}', WRONG),
        ('Action: weather\nAction Input: {"city": "Graz"}', WRONG),
        ('Action: weather\nAction Input: {"city": "Graz", "days": 1, "x": 2}', WRONG),
        ('Action: weather\nAction Input: {"city": "Graz", "days": "1"}', WRONG),
        ('Action: weather\nAction Input: {"city": "Graz", "days": true}', WRONG),
        ('Action: weather\nAction Input: {"city": "Graz", "days": 1', BROKEN),
        ('Action: weather\nAction Input: {"city": "Graz", "days": 1} and so on', BROKEN),
        ('Action: weather\nAction Input: {"city": "Graz", "days": NaN}', BROKEN),
        ('Action: weather\nAction Input: ["Graz", 1]', BROKEN),
        ("Action: weather\nAction Input: " + "[" * 100_000, BROKEN),
        ("Action: weather\nAction Input:", BROKEN),
        (
            RIGHT.replace("weather", "climate"),
            Verdict(called=True, tool=False, parsed=True, valid=False),
        ),
        ("It rains.", Verdict(called=False, tool=False, parsed=False, valid=False)),
        ("Action: weather", Verdict(called=False, tool=False, parsed=False, valid=False)),
        ("", Verdict(called=False, tool=False, parsed=False, valid=False)),
    ],
)
def test_a_call_is_valid_when_tool_and_arguments_are_right(answer: str, verdict: Verdict) -> None:
    assert toolcall.judge(WEATHER, answer) == verdict


@pytest.mark.parametrize(("answer", "valid"), [("Hello.", True), (RIGHT, False)])
def test_where_no_tool_is_needed_none_may_be_called(answer: str, valid: bool) -> None:
    assert toolcall.judge(prompt(None), answer).valid is valid


@pytest.mark.parametrize(
    ("wanted", "given", "valid"),
    [
        ({"a": [1, {"b": True}]}, '{"a": [1, {"b": true}]}', True),
        ({"a": [1, {"b": True}]}, '{"a": [1, {"b": 1}]}', False),
        ({"a": 0}, '{"a": false}', False),
        ({"a": None}, '{"a": null}', True),
        ({"a": None}, "{}", False),
        ({"a": [1]}, '{"a": [1, 1]}', False),
        ({}, "{}", True),
    ],
)
def test_values_are_compared_as_json_has_them(
    wanted: dict[str, Any], given: str, valid: bool
) -> None:
    answer = f"Action: t\nAction Input: {given}"
    assert toolcall.judge(prompt("t", wanted), answer).valid is valid


@given(st.text(), st.text(max_size=5))
def test_any_answer_gets_a_verdict(answer: str, tool: str) -> None:
    for text in (answer, f"Action: {tool}\nAction Input: {answer}"):
        verdict = toolcall.judge(WEATHER, text)
        assert not verdict.valid or (verdict.called and verdict.parsed)


def test_shares_count_the_prompts_without_a_group() -> None:
    prompts = [prompt("a"), prompt("a"), prompt("b"), prompt(None), prompt("a", group="unseen")]
    none = Verdict(called=False, tool=True, parsed=False, valid=True)
    scores = toolcall.scores(prompts, [VALID, BROKEN, WRONG, none, BROKEN])
    assert scores == {
        "prompts": 4,
        "tool_call_valid": 0.5,
        "tool_called": 0.75,
        "tool_right": 1.0,
        "arguments_json": 0.5,
        "by_tool": {"a": 0.5, "b": 0.0, "none": 1.0},
        "apart": {"unseen": {"prompts": 1, "valid": 0.0}},
    }


def test_no_prompts_are_no_success() -> None:
    assert toolcall.scores([], [])["tool_call_valid"] == 0.0
