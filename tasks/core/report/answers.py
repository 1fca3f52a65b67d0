"""Answers before and after, side by side, as the page shows them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import paths
from . import difference
from .difference import Pieces

# The page stays small: so many letters of conversations and answers, those that failed first.
MOST = 1_200_000
LONGEST = 6_000

SHARES = {
    "tool_call_valid": "valid call: right tool, right arguments",
    "tool_called": "any call",
    "tool_right": "right tool",
    "arguments_json": "arguments are JSON",
}


@dataclass(frozen=True)
class Answer:
    """One model's answer; `pieces` are marked where another model's differs."""

    model: str
    valid: bool
    pieces: Pieces


@dataclass(frozen=True)
class Row:
    """A prompt with its answers.

    Attributes:
        number: its place in the file of prompts, from 1.
        asked: the last thing that was said to the model.
        messages: the whole conversation before the answer.
        expected: the call, or that there should be none.
        kinds: what the page can be filtered by: failed, fixed, broken.
    """

    number: int
    asked: str
    messages: Sequence[Mapping[str, str]]
    expected: str
    tool: str
    group: str
    answers: Sequence[Answer]
    kinds: Sequence[str]


def source(model: str) -> Path:
    """Return the file with the newest answers: the result, or what a gate that was not met left."""
    result = paths.output(model, "evaluate") / "report.json"
    last = paths.log(model, "evaluate").with_suffix(".json")
    # The manifest is written when the gate is passed, after both.
    return last if _changed(last) > _changed(paths.manifest(model, "evaluate")) else result


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


def read(path: Path) -> dict[str, Any] | None:
    """Return what evaluate wrote, or None where it has not run."""
    try:
        found = json.loads(path.read_bytes())
        return found if found["scores"] and isinstance(found["prompts"], list) else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def rows(report: Mapping[str, Any]) -> list[Row]:
    """Return the prompts as the page shows them, in their order; not more than the page holds."""
    models = list(report["scores"])
    numbered = list(enumerate(report["prompts"], 1))
    # Those that the finished model fails come first where there is no room for all.
    finished = _first_of(models, "tuned", models[-1])
    by_worth = sorted(numbered, key=lambda each: bool(each[1][finished]["valid"]))
    left, chosen = MOST, []
    for number, prompt in by_worth:
        left -= sum(map(len, _texts(prompt, models)))
        if left < 0:
            break
        chosen.append((number, prompt))
    return [_row(number, prompt, models) for number, prompt in sorted(chosen, key=lambda c: c[0])]


def table(scores: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return the shares of each model: a label, then share and interval for each model."""
    found = list(scores.values())
    lines = [
        (label, [share(each[name], each.get("intervals", {}).get(name, ())) for each in found])
        for name, label in SHARES.items()
    ]
    for group in found[0].get("apart", {}):
        asked = found[0]["apart"][group]["prompts"]
        label = f"apart, {group.replace('_', ' ')} ({asked} prompts)"
        lines.append((label, [share(each["apart"][group]["valid"]) for each in found]))
    return lines


def by_tool(scores: Mapping[str, Any]) -> list[tuple[str, list[float]]]:
    """Return the share of valid calls for each tool."""
    found = list(scores.values())
    return [
        (tool, [each["by_tool"].get(tool, 0.0) for each in found]) for tool in found[0]["by_tool"]
    ]


def share(value: float, interval: Sequence[float] = ()) -> tuple[str, str]:
    """Return a share as people read it, and its 95% interval if it is known."""
    between = f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}" if interval else ""
    return f"{100 * value:.1f}%", between


def _texts(prompt: Mapping[str, Any], models: Sequence[str]) -> Iterator[str]:
    yield from (message["content"] for message in prompt["messages"])
    yield from (_answer(prompt[model]) for model in models)


def _answer(found: Mapping[str, Any]) -> str:
    text = "\n\n--- next turn ---\n\n".join(found.get("answers") or [found["answer"]])
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} …"


def _row(number: int, prompt: Mapping[str, Any], models: Sequence[str]) -> Row:
    texts = [_answer(prompt[model]) for model in models]
    valid = [bool(prompt[model]["valid"]) for model in models]
    expect = prompt["expect"]
    arguments = json.dumps(expect.get("arguments") or {}, ensure_ascii=False)
    return Row(
        number,
        prompt["messages"][-1]["content"],
        prompt["messages"],
        f"{expect['tool']} {arguments}" if expect.get("tool") else "no call",
        expect.get("tool") or "none",
        prompt.get("group") or "",
        [Answer(*each) for each in zip(models, valid, marked(texts), strict=True)],
        list(_kinds(dict(zip(models, valid, strict=True)))),
    )


def marked(texts: Sequence[str]) -> list[Pieces]:
    """Return each text in pieces: the first against the last, all others against the first."""
    if len(texts) == 1:
        return [[(texts[0], False)]]
    pairs = [difference.pieces(texts[0], text) for text in texts[1:]]
    return [pairs[-1][0], *(other for _, other in pairs)]


def _kinds(valid: Mapping[str, bool]) -> Iterator[str]:
    models = list(valid)
    before = valid[_first_of(models, "base", models[0])]
    after = valid[_first_of(models, "tuned", models[-1])]
    if not after:
        yield "failed"
    if before != after:
        yield "fixed" if after else "broken"


def _first_of(models: Sequence[str], wanted: str, other: str) -> str:
    """Return the model that is wanted if it answered: there may be further ones."""
    return wanted if wanted in models else other
