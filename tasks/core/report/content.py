"""What the page tells, in the words that its template is filled in with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .. import paths
from ..console import brief, duration, singles, size
from ..recipe import Recipe
from . import answers, charts, costs, picture, reproduce, training
from .state import Step

MOST_FILES = 60


def variables(recipe: Recipe, steps: Sequence[Step]) -> dict[str, Any]:
    """Return what the template is filled in with."""
    found = {step.stage: step for step in steps}
    answered = answers.source(recipe.name)
    report = answers.read(answered)
    boxes = [picture.Box(step, told(step)) for step in steps]
    return {
        "model": recipe.name,
        "origins": [
            (name.capitalize(), source.label, source.way)
            for name, source in (("base", recipe.base), ("data", recipe.data))
            if source
        ],
        "summary": summary(recipe, found),
        "pictures": [picture.draw(boxes, down=down) for down in (False, True)],
        "steps": [row(step) for step in steps],
        "training": training.told(recipe, found.get("select")),
        "data": data(found.get("convert")),
        "evaluation": evaluation(report) if report else None,
        "is_gated": answered.parent != paths.output(recipe.name, "evaluate"),
        "digests": [digests(step) for step in steps if step.receipt],
        "reproduce": reproduce.needed(recipe, steps),
        "cost": costs.table(recipe, steps),
    }


def told(step: Step) -> str:
    """Return what a stage's box says: time and size."""
    if step.receipt is None:
        return step.state
    parts = [duration(step.seconds)] if step.seconds is not None else []
    return " · ".join([*parts, size(step.receipt.size)])


def summary(recipe: Recipe, found: Mapping[str, Step]) -> dict[str, str]:
    """Return the page's headlines, by what they are."""
    facts = {name: step.receipt.facts for name, step in found.items() if step.receipt}
    weights = found[recipe.weights].receipt
    told: dict[str, str] = {}
    if "evaluate" in facts and "valid" in facts["evaluate"]:
        told["Valid tool calls"] = str(facts["evaluate"]["valid"]).replace("->", "→")
    if "parameters" in facts.get(recipe.weights, {}):
        count = charts.number(facts[recipe.weights]["parameters"])
        told["Parameters"] = f"{count}, {facts[recipe.weights]['dtype']}"
    if "loss" in facts.get("train", {}):
        told["Last loss"] = charts.number(facts["train"]["loss"])
    seconds = [step.seconds for step in found.values() if step.seconds is not None]
    if seconds:
        told["Time here"] = duration(sum(seconds))
    if weights:
        told["Weights"] = size(weights.size)
    if "digest" in facts.get("image", {}):
        told["Image"] = paths.short(facts["image"]["digest"])
    return told


def row(step: Step) -> dict[str, Any]:
    """Return a stage's row in the table of stages."""
    receipt = step.receipt
    return {
        "stage": step.stage,
        "help": step.help.rstrip("."),
        "state": step.state,
        "kind": step.state.replace(" ", "-"),
        "mark": picture.MARKS.get(step.state, picture.STALE_MARK),
        "reasons": step.reasons,
        "time": duration(step.seconds) if step.seconds is not None else "",
        "size": size(receipt.size) if receipt else "",
        "facts": facts(receipt.facts) if receipt else [],
    }


def facts(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts that are single values, as people read them."""
    return [
        (
            name.replace("_", " "),
            charts.number(value) if isinstance(value, float) else brief(str(value)),
        )
        for name, value in singles(found).items()
    ]


def data(step: Step | None) -> dict[str, Any] | None:
    """Return the dataset's statistics."""
    found = dict(step.receipt.facts) if step and step.receipt else {}
    if "rows" not in found:
        return None
    tokens = found.get("tokens") or {}
    singles = {"rows": found["rows"], "turns": found.get("turns")}
    labels = {
        "mean": "tokens in a row, mean",
        "median": "tokens in a row, median",
        "most": "tokens in the longest row",
        "max_length": "tokens that training takes of a row",
        "over_max_length": "rows that are longer",
        "rows_counted": "rows whose tokens were counted",
    }
    singles.update({label: tokens.get(name) for name, label in labels.items()})
    histogram = tokens.get("histogram") or {}
    counts = {f"≤{label}": count for label, count in histogram.items()}
    return {
        "facts": [(name, f"{value:,}") for name, value in singles.items() if value is not None],
        "roles": [(name, f"{count:,}") for name, count in (found.get("roles") or {}).items()],
        "svg": charts.bars("Rows by their number of tokens", counts) if counts else "",
    }


def evaluation(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return scores and prompts, before and after."""
    shown = answers.rows(report)
    return {
        "models": list(report["scores"]),
        "asked": next(iter(report["scores"].values()))["prompts"],
        "table": answers.table(report["scores"]),
        "tools": answers.by_tool(report["scores"]),
        "rows": shown,
        "all": len(report["prompts"]),
        "kinds": {k: sum(k in row.kinds for row in shown) for k in ("failed", "fixed", "broken")},
        "tool_names": sorted({row.tool for row in shown}),
        "groups": sorted({row.group for row in shown}),
    }


def digests(step: Step) -> dict[str, Any]:
    """Return what came in and out of a stage, by digest."""
    receipt = step.receipt
    assert receipt is not None
    return {
        "stage": step.stage,
        "content": receipt.content,
        "key": receipt.key,
        "facts": [
            (name, value)
            for name, value in receipt.facts.items()
            if name in ("revision", "digest", "reference") and isinstance(value, str)
        ],
        "files": [(f.path, size(f.size), f.digest) for f in receipt.files[:MOST_FILES]],
        "more": max(0, len(receipt.files) - MOST_FILES),
    }
