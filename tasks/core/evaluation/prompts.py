"""Held-out prompts: what a model is asked, turn by turn, and what it should call.

    {"messages": [...], "expect": {"tool": .., "arguments": {..}}, "group": .., "tools": [..],
     "then": [{"messages": [...], "expect": {..}}, ..]}

a line; all but `messages` may be missing.  `expect: {"calls": [{"tool": .., ..}, ..]}` wants
several calls in one answer.  `then` goes on after the model's answer with messages of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..recipe import Recipe, present

Message = dict[str, str]
FORM = '{"messages": [...], "expect": {"tool": .., "arguments": {..}}}'


@dataclass(frozen=True)
class Call:
    """A tool and the values that it should be called with."""

    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """Messages that the model answers, and the calls that its answer should hold; maybe none."""

    messages: Sequence[Message]
    calls: Sequence[Call] = ()

    @property
    def row(self) -> dict[str, Any]:
        """The turn as a prompts file has it."""
        first = self.calls[0] if self.calls else None
        expect: dict[str, Any] = {
            "tool": first.tool if first else None,
            "arguments": first.arguments if first else {},
        }
        if len(self.calls) > 1:
            expect["calls"] = [vars(call) for call in self.calls]
        return {"messages": list(self.messages), "expect": expect}


@dataclass(frozen=True)
class Prompt:
    """A held-out prompt.

    Attributes:
        turns: one, or more where the chat goes on after the model's answer.
        group: prompts of a named group are reported apart and stay out of the score.
        tools: tools in OpenAI's form, for models whose chat template takes them.
    """

    turns: Sequence[Turn]
    group: str = ""
    tools: Sequence[dict[str, Any]] = ()

    @property
    def expected(self) -> list[str]:
        """The tools that should be called, each once; `none` where there is none."""
        return sorted({call.tool for turn in self.turns for call in turn.calls}) or ["none"]

    @property
    def chat(self) -> dict[str, Any]:
        """What the model is told: all that an answer depends on."""
        return {"turns": [list(turn.messages) for turn in self.turns], "tools": list(self.tools)}


def of(recipe: Recipe) -> list[Prompt]:
    """Return the prompts that a recipe names; raises as `read` does."""
    return read(recipe.beside(present(recipe.evaluate).prompts))


def read(path: Path) -> list[Prompt]:
    """Return the prompts in a file.

    Raises:
        UserError: a line that is no prompt, with its number.
    """
    found = []
    try:
        # Not splitlines(): a JSON string may hold other line ends of Unicode as they are.
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start}: not UTF-8; save it as UTF-8") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(_prompt(json.loads(line)))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            why = _why(error)
            raise UserError(f"{path}:{number}: no prompt ({why}); a line is {FORM}") from None
    if not found:
        raise UserError(f"{path}: no prompts; write one a line, {FORM}")
    return found


def _why(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON at column {error.colno}: {error.msg}"
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _prompt(raw: dict[str, Any]) -> Prompt:
    group, tools = raw.get("group") or "", raw.get("tools") or []
    if not isinstance(group, str):
        raise TypeError("group should be text")
    if not all(isinstance(tool, dict) for tool in tools):
        raise TypeError("tools should be a list of objects")
    return Prompt(tuple(map(_turn, [raw, *(raw.get("then") or [])])), group, tuple(tools))


def _turn(raw: dict[str, Any]) -> Turn:
    messages = [{"role": m["role"], "content": m["content"]} for m in raw["messages"]]
    texts = [text for message in messages for text in message.values()]
    if not messages or not all(isinstance(text, str) for text in texts):
        raise ValueError("messages should be a list of role and content, both text")
    expect = raw.get("expect") or {}
    calls = expect["calls"] if "calls" in expect else [expect] if expect.get("tool") else []
    return Turn(messages, tuple(map(_call, calls)))


def _call(raw: dict[str, Any]) -> Call:
    tool, arguments = raw["tool"], raw.get("arguments") or {}
    if not isinstance(tool, str) or not isinstance(arguments, dict):
        raise TypeError("tool should be text, arguments an object")
    return Call(tool, arguments)
