"""Find the tool calls in an answer and judge them against what was expected."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .prompts import Call, Prompt, Turn

# Agent-FLAN's form; the tool's name ends with its line, its input is one JSON object to the end, or
# to the next call.
REACT = re.compile(
    r"Action:[ \t]*(?P<tool>[^\n]+?)[ \t]*\nAction Input:\s*"
    r"(?P<input>.*?)(?=\n(?:Thought:[^\n]*\n+)?Action:[^\n]+\nAction Input:|\Z)",
    re.DOTALL,
)
# Hermes' and Qwen's form, in which we also write what a server gives as `tool_calls`.
TAGGED = re.compile(r"<tool_call>\s*(?P<call>.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Verdict:
    """What is right about an answer.

    Attributes:
        called: there is a tool call at all.
        tool: the right tools are called, and no others.
        parsed: the arguments are JSON objects.
        valid: tools and arguments are right; with no tool expected, none is called.
    """

    called: bool
    tool: bool
    parsed: bool
    valid: bool


def judge(prompt: Prompt, answers: Sequence[str]) -> Verdict:
    """Return what is right about the answers to a prompt's turns.

    All turns have to be valid; the rest is told of the turns in which a call is expected.
    """
    verdicts = [
        judge_turn(turn, answer) for turn, answer in zip(prompt.turns, answers, strict=True)
    ]
    calling = [v for turn, v in zip(prompt.turns, verdicts, strict=True) if turn.calls] or verdicts
    return Verdict(
        called=all(v.called for v in calling),
        tool=all(v.tool for v in calling),
        parsed=all(v.parsed for v in calling),
        valid=all(v.valid for v in verdicts),
    )


def judge_turn(turn: Turn, answer: str) -> Verdict:
    """Return what is right about one answer."""
    found = calls(answer)
    right = sorted(tool for tool, _ in found) == sorted(call.tool for call in turn.calls)
    parsed = bool(found) and all(isinstance(arguments, dict) for _, arguments in found)
    valid = right and (parsed or not found) and _all_found(turn.calls, found)
    return Verdict(called=bool(found), tool=right, parsed=parsed, valid=valid)


def calls(answer: str) -> list[tuple[str, Any]]:
    """Return the calls in an answer: tool and arguments, None where those are no JSON."""
    spoken = [(found["tool"], _json(found["input"])) for found in REACT.finditer(answer)]
    return spoken or [_tagged(found["call"]) for found in TAGGED.finditer(answer)]


def written(tool: str, arguments: str) -> str:
    """Return a call, its arguments as JSON, in the text form that `calls` finds."""
    return f'<tool_call>\n{{"name": {json.dumps(tool)}, "arguments": {arguments}}}\n</tool_call>'


def _tagged(text: str) -> tuple[str, Any]:
    content = _json(text)
    if not isinstance(content, dict):
        return "", None
    arguments = content.get("arguments", content.get("parameters", {}))
    arguments = _json(arguments) if isinstance(arguments, str) else arguments
    return str(content.get("name", "")), arguments


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(constant: str) -> None:
    """Refuse NaN and Infinity, which Python reads and JSON has not."""
    raise ValueError(constant)


def _all_found(expected: Sequence[Call], found: Sequence[tuple[str, Any]]) -> bool:
    """Return whether each expected call is there; they may come in any order."""
    left = list(found)
    for call in expected:
        same = [each for each in left if each[0] == call.tool and _same(each[1], call.arguments)]
        if not same:
            return False
        left.remove(same[0])
    return True


def _same(left: Any, right: Any) -> bool:
    """Return whether two values of JSON are equal; to Python, true would equal 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)
