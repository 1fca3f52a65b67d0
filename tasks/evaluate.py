"""Evaluate base and tuned model side by side; the gate decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .core import console, paths, render, toolcall, xtuner
from .core.errors import CommandFailed, UserError
from .core.recipe import Recipe
from .core.sections import Evaluate
from .core.stage import Facts, TaskDict
from .core.toolcall import Prompt, Verdict
from .core.xtuner import DATA_FAULT

VERSION = 1
TEMPLATE = "evaluation.md.j2"


def wanted(recipe: Recipe) -> bool:
    """Return whether the recipe has held-out prompts."""
    return recipe.evaluate is not None


def task(recipe: Recipe) -> TaskDict:
    stages = ["base", recipe.weights] if recipe.tuned else ["base"]
    return {
        "doc": f"{' and '.join(models(recipe))} answer {_evaluate(recipe).prompts}",
        "file_dep": [
            *(paths.manifest(recipe.name, stage) for stage in stages),
            recipe.beside(_evaluate(recipe).prompts),
            paths.TEMPLATES / TEMPLATE,
        ],
        "task_dep": ["toolchain:xtuner"],
        "targets": ["report.json", "report.md"],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    """Return how answers are made, and the gate that they have to pass."""
    found = recipe.slice("evaluate", "base.trust_remote_code")
    # The prompts are an input by their content, wherever they lie.
    return {name: value for name, value in found.items() if name != "evaluate.prompts"}


def models(recipe: Recipe) -> dict[str, Path]:
    """Return the models that answer, by the names that the report gives them."""
    found = {"base": paths.output(recipe.name, "base")}
    return {**found, "tuned": paths.output(recipe.name, "merge")} if recipe.tuned else found


def command(recipe: Recipe, folder: Path) -> list[str]:
    """Return the command that writes each model's answers into a folder."""
    evaluate = _evaluate(recipe)
    return xtuner.program(
        "answer.py",
        recipe.beside(evaluate.prompts),
        evaluate.max_new_tokens,
        evaluate.batch_size,
        *(
            f"{name}={place.absolute()}={folder.absolute() / name}.jsonl"
            for name, place in models(recipe).items()
        ),
    )


def run(recipe: Recipe, folder: Path) -> Facts:
    """Let every model answer, judge the answers, write the reports, apply the gate."""
    prompts = read_prompts(recipe)
    _answer(recipe, folder)
    answers = {name: _read_answers(folder / f"{name}.jsonl") for name in models(recipe)}
    verdicts = {
        name: [toolcall.judge(p, text) for p, text in zip(prompts, texts, strict=True)]
        for name, texts in answers.items()
    }
    scores = {name: toolcall.scores(prompts, found) for name, found in verdicts.items()}
    rows = _side_by_side(prompts, answers, verdicts)
    report = {"scores": scores, "prompts": rows}
    text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
    (folder / "report.json").write_text(text, encoding="utf-8")
    page = render.text(TEMPLATE, model=recipe.name, base=recipe.base.label, **report)
    (folder / "report.md").write_text(page, encoding="utf-8")
    # A gate that is not met leaves no result; people will want to see the answers all the same.
    seen = paths.log(recipe.name, "evaluate").with_suffix(".md")
    seen.parent.mkdir(parents=True, exist_ok=True)
    seen.write_text(page, encoding="utf-8")
    _apply_gate(recipe, scores, rows)
    shown = {name: found["tool_call_valid"] for name, found in scores.items()}
    return {**scores, "valid": " -> ".join(f"{share:.1%}" for share in shown.values())}


def read_prompts(recipe: Recipe) -> list[Prompt]:
    """Return the recipe's prompts.

    Raises:
        UserError: a line that is no prompt, with its number.
    """
    path = recipe.beside(_evaluate(recipe).prompts)
    prompts = []
    try:
        # Not splitlines(): a JSON string may hold other line ends of Unicode as they are.
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start}: not UTF-8; save it as UTF-8") from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            prompts.append(_prompt(json.loads(line)))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f'{path}:{number}: no prompt ({error!r}); a line is {{"messages": [...], '
                '"expect": {"tool": .., "arguments": {..}}}'
            ) from None
    if not prompts:
        raise UserError(f"{path}: no prompts; write one a line")
    return prompts


def _prompt(raw: dict[str, Any]) -> Prompt:
    expect = raw.get("expect") or {}
    messages = [{"role": m["role"], "content": m["content"]} for m in raw["messages"]]
    tool, arguments = expect.get("tool"), expect.get("arguments") or {}
    group = raw.get("group") or ""
    texts = [text for message in messages for text in message.values()]
    if not messages or not all(isinstance(text, str) for text in (*texts, tool or "", group)):
        raise ValueError("messages, tool or group is not text")
    if not isinstance(arguments, dict):
        raise ValueError("arguments should be an object")
    return Prompt(messages, tool, arguments, group)


def _answer(recipe: Recipe, folder: Path) -> None:
    lines: list[str] = []

    def follow(line: str) -> None:
        lines.append(line)
        if line.startswith("answered"):
            console.status(line)

    try:
        log = paths.log(recipe.name, "evaluate")
        xtuner.run(command(recipe, folder), recipe, log, follow, devices=1)
    except CommandFailed as error:
        if error.status == DATA_FAULT:
            raise UserError(lines[-1]) from None
        raise
    finally:
        console.clear()


def _read_answers(path: Path) -> list[str]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _side_by_side(
    prompts: list[Prompt], answers: dict[str, list[str]], verdicts: dict[str, list[Verdict]]
) -> list[dict[str, Any]]:
    return [
        {
            "messages": list(prompt.messages),
            "expect": {"tool": prompt.tool, "arguments": prompt.arguments},
            "group": prompt.group,
            **{
                name: {"answer": answers[name][at], "valid": verdicts[name][at].valid}
                for name in answers
            },
        }
        for at, prompt in enumerate(prompts)
    ]


def _apply_gate(recipe: Recipe, scores: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Fail when the model that is built scores less than the recipe asks for."""
    least = _evaluate(recipe).gate.tool_call_valid
    name = list(scores)[-1]
    reached = scores[name]["tool_call_valid"]
    if least is None or reached >= least:
        return
    worst = [row for row in rows if not row["group"] and not row[name]["valid"]][:3]
    examples = "\n".join(
        f"  asked:    {row['messages'][-1]['content']}\n"
        f"  expected: {row['expect']['tool']} {json.dumps(row['expect']['arguments'])}\n"
        f"  answered: {row[name]['answer']!r}"
        for row in worst
    )
    raise UserError(
        f"{recipe.file}: evaluate.gate.tool_call_valid: {reached:.1%} of the answers are valid, "
        f"{least:.1%} are asked for; train longer or on more data, or lower the gate; all answers "
        f"are in {paths.log(recipe.name, 'evaluate').with_suffix('.md')}\n{examples}"
    )


def _evaluate(recipe: Recipe) -> Evaluate:
    assert recipe.evaluate is not None
    return recipe.evaluate
