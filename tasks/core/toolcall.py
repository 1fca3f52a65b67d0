"""Find the tool call in an answer and judge it against what was expected."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Agent-FLAN's form; the tool's name ends with its line, its input is one JSON object to the end.
REACT = re.compile(
    r"Action:[ \t]*(?P<tool>[^\n]+?)[ \t]*\nAction Input:\s*(?P<input>.*)", re.DOTALL
)


@dataclass(frozen=True)
class Prompt:
    """A held-out prompt.

    Attributes:
        messages: the chat so far, as [{"role": .., "content": ..}].
        tool: the tool that should be called, None where none should be.
        arguments: the values it should be called with.
        group: prompts of a named group are reported apart and stay out of the score.
    """

    messages: Sequence[dict[str, str]]
    tool: str | None
    arguments: dict[str, Any]
    group: str


@dataclass(frozen=True)
class Verdict:
    """What is right about an answer.

    Attributes:
        called: there is a tool call at all.
        tool: it names the right tool.
        parsed: its arguments are a JSON object.
        valid: tool and arguments are right; with no tool expected, none is called.
    """

    called: bool
    tool: bool
    parsed: bool
    valid: bool


def judge(prompt: Prompt, answer: str) -> Verdict:
    """Return what is right about an answer."""
    found = REACT.search(answer)
    if found is None:
        none_expected = prompt.tool is None
        return Verdict(called=False, tool=none_expected, parsed=False, valid=none_expected)
    right = found["tool"] == prompt.tool
    try:
        arguments = json.loads(found["input"], parse_constant=_refuse)
    except (ValueError, RecursionError):
        return Verdict(called=True, tool=right, parsed=False, valid=False)
    parsed = isinstance(arguments, dict)
    valid = right and parsed and _same(arguments, prompt.arguments)
    return Verdict(called=True, tool=right, parsed=parsed, valid=valid)


def _refuse(constant: str) -> None:
    """Refuse NaN and Infinity, which Python reads and JSON has not."""
    raise ValueError(constant)


def _same(left: Any, right: Any) -> bool:
    """Return whether two values of JSON are equal; to Python, true would equal 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(_same(left[k], right[k]) for k in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(_same, left, right))
    return bool(left == right)


def scores(prompts: Sequence[Prompt], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return shares over the prompts without a group; the valid ones also by tool and by group."""
    judged = list(zip(prompts, verdicts, strict=True))
    main = [(p, v) for p, v in judged if not p.group]
    groups = sorted({p.group for p in prompts if p.group})
    return {
        "prompts": len(main),
        "tool_call_valid": _share([v.valid for _, v in main]),
        "tool_called": _share([v.called for _, v in main]),
        "tool_right": _share([v.tool for _, v in main]),
        "arguments_json": _share([v.parsed for _, v in main]),
        "by_tool": {
            tool: _share([v.valid for p, v in main if (p.tool or "none") == tool])
            for tool in sorted({p.tool or "none" for p, _ in main})
        },
        "apart": {
            group: {
                "prompts": sum(p.group == group for p in prompts),
                "valid": _share([v.valid for p, v in judged if p.group == group]),
            }
            for group in groups
        },
    }


def _share(right: Sequence[bool]) -> float:
    return round(sum(right) / len(right), 4) if right else 0.0
