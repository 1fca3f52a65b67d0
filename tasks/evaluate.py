"""Evaluate base and tuned model side by side; the gate decides."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core import paths
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.evaluation import TEMPLATE
from .core.recipe import Recipe, present

if TYPE_CHECKING:
    from .core.evaluation.answers import Answers
    from .core.evaluation.prompts import Prompt

VERSION = 2


def wanted(recipe: Recipe) -> bool:
    """Return whether the recipe has held-out prompts."""
    return recipe.evaluate is not None


def task(recipe: Recipe) -> TaskDict:
    local = models(recipe)
    names = " and ".join([*local, *(name for name in served(recipe) if name not in local)])
    # The finished model is an input even where a server answers for it: the gate is its gate.
    stages = dict.fromkeys([*(place.name for place in local.values()), recipe.weights])
    return {
        "doc": f"{names} answer {present(recipe.evaluate).prompts}",
        "file_dep": [
            *(paths.manifest(recipe.name, stage) for stage in stages),
            recipe.beside(present(recipe.evaluate).prompts),
            paths.TEMPLATES / TEMPLATE,
        ],
        "task_dep": ["toolchain:xtuner"] if local else [],
        "targets": ["report.json", "report.md"],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    """Return how answers are made, and the gate that they have to pass."""
    found = recipe.slice("evaluate", "base.trust_remote_code")
    # The prompts are an input by their content, wherever they lie.
    return {name: value for name, value in found.items() if name != "evaluate.prompts"}


def check(recipe: Recipe) -> None:
    """Refuse prompts that nobody can be asked, and an address that is none, before training."""
    from .core.evaluation import prompts
    from .core.web import address

    prompts.of(recipe)
    if served(recipe):
        address.check("evaluate_endpoint")


def models(recipe: Recipe) -> dict[str, Path]:
    """Return the models on disk that answer, by the names that the report gives them."""
    found = {"base": paths.output(recipe.name, "base")}
    if recipe.tuned:
        found["tuned"] = paths.output(recipe.name, "merge")
    return {name: place for name, place in found.items() if name not in served(recipe)}


def served(recipe: Recipe) -> dict[str, str]:
    """Return the models that the endpoint answers for, and what they are called there."""
    return dict(present(recipe.evaluate).served or {})


def reuses(recipe: Recipe) -> str:
    """Return that every answer is there already, if so: only judging them is left to do."""
    if served(recipe):
        return ""
    from .core.evaluation import answers, prompts

    try:
        kept = answers.are_kept(recipe, prompts.of(recipe), models(recipe))
    except (UserError, OSError):
        return ""
    return "all answers are kept; they are judged anew" if kept else ""


def run(recipe: Recipe, folder: Path) -> Facts:
    """Let every model answer, judge the answers, write the reports, apply the gate."""
    from .core.evaluation import evaluation, prompts

    asked = prompts.of(recipe)
    given = _answers(recipe, asked, folder)
    report = evaluation.judge(asked, given)
    title = f"{recipe.name} from {recipe.base.label}: before and after"
    evaluation.write(folder, title, report, given)
    # A gate that is not met leaves no result; people will want to see the answers all the same.
    seen = paths.log(recipe.name, "evaluate")
    seen.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".md", ".json"):
        shutil.copyfile(folder / f"report{suffix}", seen.with_suffix(suffix))
    _apply_gate(recipe, report)
    return _facts(report["scores"])


def _facts(scores: dict[str, Any]) -> Facts:
    """Return the shares; what follows from them is left to the reports."""
    told = {
        name: {key: value for key, value in found.items() if key not in ("intervals", "tools")}
        for name, found in scores.items()
    }
    shown = [found["tool_call_valid"] for found in scores.values()]
    return {**told, "valid": " -> ".join(f"{share:.1%}" for share in shown)}


def _answers(recipe: Recipe, asked: list[Prompt], folder: Path) -> dict[str, Answers]:
    """Return each model's answers: base first, then the tuned model, then the others."""
    log = paths.log(recipe.name, "evaluate")
    found: dict[str, Answers] = {}
    if served(recipe):
        from .core.evaluation import endpoint

        # First, as a server that is not there is found out at once.
        found = endpoint.ask(recipe, asked, served(recipe))
    if models(recipe):
        from .core.evaluation import answers

        found |= answers.ask(recipe, asked, models(recipe), folder / "work", log)
    order = sorted(found, key=lambda name: ("base", "tuned", name).index(name))
    return {name: found[name] for name in order}


def _apply_gate(recipe: Recipe, report: dict[str, Any]) -> None:
    """Fail when the model that is built scores less than the recipe asks for."""
    least = present(recipe.evaluate).gate.tool_call_valid
    name = "tuned" if recipe.tuned else "base"
    reached = report["scores"][name]["tool_call_valid"]
    if least is None or reached >= least:
        return
    worst = [row for row in report["prompts"] if not row["group"] and not row[name]["valid"]][:3]
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
