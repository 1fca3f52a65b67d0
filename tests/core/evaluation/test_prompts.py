"""Prompts: what a line may say, and what it is told by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import UserError
from tasks.core.evaluation import prompts
from tasks.core.evaluation.prompts import Call

USER = {"role": "user", "content": "Weather in Graz?"}
EXPECT = {"tool": "weather", "arguments": {"city": "Graz"}}
PROMPT: dict[str, Any] = {"messages": [USER], "expect": EXPECT}


def written(path: Path, *rows: Any) -> Path:
    lines = [row if isinstance(row, str | bytes) else json.dumps(row) for row in rows]
    path.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines) + b"\n")
    return path


def test_prompts_may_hold_other_line_ends_and_blank_lines(tmp_path: Path) -> None:
    text = "a\u2028b\x85c"
    row = {**PROMPT, "messages": [{"role": "user", "content": text}]}
    path = written(
        tmp_path / "p", json.dumps(row, ensure_ascii=False), "", json.dumps(PROMPT) + "\r"
    )
    asked = [prompt.turns[0].messages[0]["content"] for prompt in prompts.read(path)]
    assert asked == [text, "Weather in Graz?"]


@pytest.mark.parametrize(
    ("expect", "calls"),
    [
        (None, []),
        ({}, []),
        ({"tool": None, "arguments": {}}, []),
        (EXPECT, [Call("weather", {"city": "Graz"})]),
        ({"tool": "now"}, [Call("now", {})]),
        (
            {"calls": [EXPECT, {"tool": "now"}]},
            [Call("weather", {"city": "Graz"}), Call("now", {})],
        ),
        ({"calls": []}, []),
    ],
)
def test_a_prompt_expects_no_call_or_one_or_several(
    tmp_path: Path, expect: Any, calls: list[Call]
) -> None:
    (prompt,) = prompts.read(written(tmp_path / "p", {**PROMPT, "expect": expect}))
    assert list(prompt.turns[0].calls) == calls
    # The report's row says the same again.
    (again,) = prompts.read(written(tmp_path / "q", prompt.turns[0].row))
    assert again == prompt


def test_a_chat_goes_on_after_the_answer(tmp_path: Path) -> None:
    more = {"messages": [{"role": "user", "content": "Response: rain"}]}
    tool = {"type": "function", "function": {"name": "weather"}}
    row = {**PROMPT, "then": [more], "tools": [tool], "group": "chats"}
    (prompt,) = prompts.read(written(tmp_path / "p", row))
    assert prompt.chat == {"turns": [[USER], more["messages"]], "tools": [tool]}
    assert (prompt.expected, prompt.group) == (["weather"], "chats")


def test_what_is_expected_is_no_part_of_what_a_model_is_told(tmp_path: Path) -> None:
    first, second = prompts.read(written(tmp_path / "p", PROMPT, {**PROMPT, "expect": {}}))
    assert first.chat == second.chat


@pytest.mark.parametrize(
    "row",
    [
        "{", "[]", "7", "null", "{}", "[" * 100_000,
        {"messages": []}, {"messages": "Hi"}, {"messages": ["Hi"]}, {"messages": {"role": "user"}},
        {"messages": [{"role": "user"}]}, {"messages": [{"role": "user", "content": None}]},
        {**PROMPT, "expect": "weather"}, {**PROMPT, "expect": {"tool": 7}},
        {**PROMPT, "expect": {"tool": "weather", "arguments": ["Graz"]}}, {**PROMPT, "group": 7},
        {**PROMPT, "expect": {"calls": [{}]}}, {**PROMPT, "expect": {"calls": 7}},
        {**PROMPT, "then": [{}]}, {**PROMPT, "then": "more"}, {**PROMPT, "tools": ["weather"]},
        {**PROMPT, "tools": 7},
    ],
)  # fmt: skip
def test_a_line_that_is_no_prompt_is_named(tmp_path: Path, row: Any) -> None:
    path = written(tmp_path / "p", PROMPT, row)
    with pytest.raises(UserError) as caught:
        prompts.read(path)
    assert str(caught.value).startswith(f"{path}:2: no prompt (")


@pytest.mark.parametrize(
    ("row", "said"), [("", "no prompts; write one a line"), (b"\xff", "byte 0: not UTF-8")]
)
def test_a_file_without_prompts_is_refused(tmp_path: Path, row: str | bytes, said: str) -> None:
    path = written(tmp_path / "p", row)
    with pytest.raises(UserError) as caught:
        prompts.read(path)
    assert str(caught.value).startswith(f"{path}: {said}")
