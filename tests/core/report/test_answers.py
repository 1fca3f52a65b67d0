"""Answers before and after, as the page shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.core.report import answers


def prompt(before: bool, after: bool, text: str = "x", **more: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": "Ask?"}],
        "expect": {"tool": "mail", "arguments": {"to": "Ann"}},
        "group": "",
        "base": {"answer": text, "valid": before},
        "tuned": {"answer": text, "valid": after},
        **more,
    }


def report(*prompts: dict[str, Any]) -> dict[str, Any]:
    return {"scores": {"base": {}, "tuned": {}}, "prompts": list(prompts)}


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        (False, False, ["failed"]),
        (False, True, ["fixed"]),
        (True, False, ["failed", "broken"]),
        (True, True, []),
    ],
)
def test_a_prompt_is_of_its_kinds(before: bool, after: bool, kinds: list[str]) -> None:
    (row,) = answers.rows(report(prompt(before, after)))

    assert row.kinds == kinds
    assert row.expected == 'mail {"to": "Ann"}'


def test_further_models_do_not_change_what_failed() -> None:
    asked = report(prompt(False, True, another={"answer": "x", "valid": False}))
    asked["scores"]["another"] = {}

    (row,) = answers.rows(asked)

    assert row.kinds == ["fixed"]
    assert [answer.model for answer in row.answers] == ["base", "tuned", "another"]


def test_where_there_is_no_room_for_all_those_that_failed_are_kept() -> None:
    long = "y" * answers.LONGEST
    many = [prompt(True, number == 0, long) for number in reversed(range(150))]

    shown = answers.rows(report(*many))

    assert 50 < len(shown) < 150
    assert all("failed" in row.kinds for row in shown)
    assert [row.number for row in shown] == sorted(row.number for row in shown)


def test_all_turns_of_a_conversation_are_shown() -> None:
    said = prompt(False, True, tuned={"answer": "one", "answers": ["one", "two"], "valid": True})

    (row,) = answers.rows(report(said))

    text = "".join(text for text, _ in row.answers[1].pieces)
    assert "one" in text
    assert "two" in text


def test_no_call_may_be_what_is_expected() -> None:
    (row,) = answers.rows(report(prompt(True, True, expect={"tool": None, "arguments": {}})))

    assert (row.expected, row.tool) == ("no call", "none")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"scores": {}, "prompts": []}', "{"])
def test_a_file_that_is_no_report_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)

    assert answers.read(tmp_path / "report.json") is None
    assert answers.read(tmp_path / "gone.json") is None


def test_an_interval_is_told_where_it_is_known() -> None:
    assert answers.share(0.97) == ("97.0%", "")
    assert answers.share(0.97, [0.9356, 0.9862]) == ("97.0%", "93.6 to 98.6")
