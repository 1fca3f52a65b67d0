"""Tool calls: what counts as valid, and how shares are counted."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.evaluation import toolcall
from tasks.core.evaluation.prompts import Call, Prompt, Turn
from tasks.core.evaluation.toolcall import Verdict

ASKED = [{"role": "user", "content": "?"}]


def turn(tool: str | None, arguments: dict[str, Any] | None = None) -> Turn:
    return Turn(ASKED, [Call(tool, arguments or {})] if tool else [])


WEATHER = turn("weather", {"city": "Graz", "days": 1})
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
    assert toolcall.judge_turn(WEATHER, answer) == verdict


@pytest.mark.parametrize(("answer", "valid"), [("Hello.", True), (RIGHT, False)])
def test_where_no_tool_is_needed_none_may_be_called(answer: str, valid: bool) -> None:
    assert toolcall.judge_turn(turn(None), answer).valid is valid


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
    assert toolcall.judge_turn(turn("t", wanted), answer).valid is valid


@given(st.text(), st.text(max_size=5))
def test_any_answer_gets_a_verdict(answer: str, tool: str) -> None:
    for text in (answer, f"Action: {tool}\nAction Input: {answer}"):
        verdict = toolcall.judge_turn(WEATHER, text)
        assert not verdict.valid or (verdict.called and verdict.parsed)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ('<tool_call>\n{"name": "weather", "arguments": {"city": "Graz", "days": 1}}\n</tool_call>',
         VALID),
        ('Sure.<tool_call>{"name": "weather", "parameters": {"city": "Graz", "days": 1}}', VALID),
        ('<tool_call>{"name": "weather", "arguments": "{\\"city\\": \\"Graz\\", \\"days\\": 1}"}',
         VALID),
        ('<tool_call>{"name": "weather", "arguments": {"city": "Wien"}}</tool_call>', WRONG),
        ('<tool_call>{"name": "weather"</tool_call>',
         Verdict(called=True, tool=False, parsed=False, valid=False)),
        ("<tool_call>[]</tool_call>", Verdict(called=True, tool=False, parsed=False, valid=False)),
        ('{"name": "weather", "arguments": {"city": "Graz", "days": 1}}',
         Verdict(called=False, tool=False, parsed=False, valid=False)),
    ],
)  # fmt: skip
def test_calls_in_tags_count_as_well(answer: str, verdict: Verdict) -> None:
    assert toolcall.judge_turn(WEATHER, answer) == verdict


def test_a_call_that_a_server_took_out_is_found_in_the_text_that_is_made_of_it() -> None:
    text = toolcall.written('we"ather', '{"city": "Graz"}')
    assert toolcall.calls(f"Let me see.\n{text}") == [('we"ather', {"city": "Graz"})]


TWO = Turn(ASKED, [Call("weather", {"city": "Graz"}), Call("mail", {"to": "Eva"})])
GRAZ, EVA = (
    f"Action: {tool}\nAction Input: {text}"
    for tool, text in (("weather", '{"city": "Graz"}'), ("mail", '{"to": "Eva"}'))
)


@pytest.mark.parametrize(
    ("answer", "valid"),
    [
        (f"{GRAZ}\n{EVA}", True),
        (f"{EVA}\n\nThought: and then\n{GRAZ}\n", True),
        (GRAZ, False),
        (f"{GRAZ}\n{GRAZ}", False),
        (f"{GRAZ}\n{EVA}\n{EVA}", False),
        (f"{GRAZ}\n{EVA.replace('Eva', 'Ina')}", False),
        (f"{GRAZ} and\n{EVA}", False),
    ],
)
def test_several_calls_may_be_expected_in_any_order(answer: str, valid: bool) -> None:
    assert toolcall.judge_turn(TWO, answer).valid is valid


CHAT = Prompt([turn("weather", {"city": "Graz"}), turn(None)])


@pytest.mark.parametrize(
    ("answers", "verdict"),
    [
        ([GRAZ, "It rains."], VALID),
        ([GRAZ, GRAZ], WRONG),
        (["It rains.", "It rains."],
         Verdict(called=False, tool=False, parsed=False, valid=False)),
    ],
)  # fmt: skip
def test_every_turn_of_a_chat_has_to_be_right(answers: list[str], verdict: Verdict) -> None:
    assert toolcall.judge(CHAT, answers) == verdict


def test_an_answer_of_line_ends_alone_is_read_in_no_time() -> None:
    answer = "Action: a\nAction Input: " + "\n" * 200_000 + "Thought: " * 20_000
    assert not toolcall.judge_turn(WEATHER, answer).valid
