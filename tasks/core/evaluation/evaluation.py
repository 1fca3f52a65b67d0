"""Judge models' answers side by side and write what came of it, for people and for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import render
from . import TEMPLATE, answers, toolcall
from .answers import Answers
from .prompts import Prompt
from .scores import SHARES, difference, scores
from .toolcall import Verdict

TASK = "tool_call"


def judge(prompts: Sequence[Prompt], given: Mapping[str, Answers]) -> dict[str, Any]:
    """Return scores by model, and all prompts with each model's answer and what it is worth."""
    verdicts = {
        name: [toolcall.judge(p, texts) for p, texts in zip(prompts, each, strict=True)]
        for name, each in given.items()
    }
    return {
        "scores": {name: scores(prompts, found) for name, found in verdicts.items()},
        "gains": gains(prompts, verdicts),
        "prompts": [
            _row(prompt, {name: (given[name][at], verdicts[name][at]) for name in given})
            for at, prompt in enumerate(prompts)
        ],
    }


def gains(
    prompts: Sequence[Prompt], verdicts: Mapping[str, Sequence[Verdict]]
) -> dict[str, dict[str, Any]]:
    """Return how much more each model has right than the first, on the same prompts."""
    right = {
        name: [v.valid for p, v in zip(prompts, found, strict=True) if not p.group]
        for name, found in verdicts.items()
    }
    first, *others = right
    found = {name: difference(right[first], right[name]) for name in others}
    return {
        name: {"over": first, "tool_call_valid": by, "interval": between}
        for name, (by, between) in found.items()
    }


def _row(prompt: Prompt, answered: Mapping[str, tuple[list[str], Verdict]]) -> dict[str, Any]:
    """Return a prompt as the report has it; what it shares with all prompts' simplest comes first.

    Only a chat of several turns has `then` and each model's `answers`.
    """
    first, *more = prompt.turns
    several = {"then": [turn.row for turn in more]} if more else {}
    return {
        **first.row,
        "group": prompt.group,
        **several,
        **{
            name: {
                "answer": texts[0],
                "valid": verdict.valid,
                **({"answers": texts} if more else {}),
            }
            for name, (texts, verdict) in answered.items()
        },
    }


def write(
    folder: Path, title: str, report: Mapping[str, Any], given: Mapping[str, Answers]
) -> None:
    """Write report.json, report.md, and each model's answers and results."""
    page = render.text(TEMPLATE, title=title, **report)
    (folder / "report.md").write_text(page, encoding="utf-8")
    _dump(folder / "report.json", report)
    for name, texts in given.items():
        answers.write(folder / f"{name}.jsonl", texts)
        _dump(folder / f"results-{name}.json", results(name, report["scores"][name]))


def _dump(path: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


def results(model: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model's scores in the form of lm-evaluation-harness, each tool as a subtask."""
    tools = {f"{TASK}_{tool}": each for tool, each in found["tools"].items()}
    counts = {TASK: found["prompts"], **{task: each["prompts"] for task, each in tools.items()}}
    measured = {TASK: {name: found[name] for name in SHARES}}
    measured |= {task: {"tool_call_valid": each["tool_call_valid"]} for task, each in tools.items()}
    return {
        "results": {
            task: {
                "alias": task if task == TASK else f" - {task.removeprefix(f'{TASK}_')}",
                **{
                    key: value
                    for name, share in values.items()
                    for key, value in (
                        (f"{name},none", share),
                        (f"{name}_stderr,none", _error(share, counts[task])),
                    )
                },
            }
            for task, values in measured.items()
        },
        "group_subtasks": {TASK: list(tools)},
        "configs": {
            task: {"task": task, "output_type": "generate_until", "num_fewshot": 0}
            for task in measured
        },
        "versions": dict.fromkeys(measured, 1),
        "n-shot": dict.fromkeys(measured, 0),
        "higher_is_better": {
            task: dict.fromkeys(values, True) for task, values in measured.items()
        },
        "n-samples": {
            task: {"original": count, "effective": count} for task, count in counts.items()
        },
        "model_name": model,
    }


def _error(share: float, count: int) -> float | str:
    """Return the standard error of a share; of less than two, lm-evaluation-harness says N/A."""
    return round(math.sqrt(share * (1 - share) / (count - 1)), 6) if count > 1 else "N/A"
