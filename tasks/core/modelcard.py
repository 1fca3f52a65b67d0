"""What a model card says: the Hub's header, and the values that its template is filled in with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import paths
from .recipe import Recipe
from .sections import Source

# The recipe's values that the card shows.
SHOWN = tuple(
    f"train.{name}"
    for name in (
        "method prompt_template max_length pack_to_max_length batch_size accumulative_counts "
        "max_epochs max_iters optim_type lr warmup_ratio weight_decay max_norm dtype seed lora.r "
        "lora.alpha lora.dropout"
    ).split()
)
# The kinds of call that the evaluation of the card tells of.
METRICS = {"tool_call_valid": "valid tool calls", "tool_right": "right tool"}


def told(recipe: Recipe) -> dict[str, str]:
    """Return what base and data are called, unless they are folders of this machine."""
    return {
        name: f"{source.way}:{source.label}"
        for name, source in (("base", recipe.base), ("data", recipe.data))
        if source and source.way != "path"
    }


def variables(recipe: Recipe, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the template is filled in with.

    Args:
        facts: those of the stages that the model was made by, by stage.
    """
    from .report import answers

    report = answers.read(paths.output(recipe.name, "evaluate") / "report.json")
    report = report if "evaluate" in facts else None
    sources = {
        name: {"label": _label(source, what), "revision": facts.get(name, {}).get("revision", "")}
        for name, what, source in (
            ("base", "model", recipe.base),
            ("data", "dataset", recipe.data),
        )
        if source
    }
    text = recipe.beside(recipe.card.text).read_text("utf-8").strip() if recipe.card.text else ""
    return {
        "model": recipe.name,
        "text": text,
        "license": recipe.card.license,
        "method": recipe.train.method if recipe.train else "",
        "sources": sources,
        "facts": facts,
        "settings": {
            name.removeprefix("train."): _spelt(value)
            for name, value in recipe.slice(*SHOWN).items()
        },
        "scores": dict(report["scores"]) if report else {},
        "asked": next(iter(report["scores"].values())) if report else {},
        "table": answers.table(report["scores"]) if report else [],
        "example": _example(report) if report else None,
    }


def header(recipe: Recipe, values: Mapping[str, Any]) -> str:
    """Return the card's header as YAML, in the Hub's own words."""
    from huggingface_hub import ModelCardData

    labels = {
        name: source.label if source and source.way == "hub" else None
        for name, source in (("base", recipe.base), ("data", recipe.data))
    }
    tags = ["modelwright", *(["xtuner", values["method"]] if recipe.train else [])]
    data = ModelCardData(
        model_name=recipe.name,
        base_model=labels["base"],
        base_model_relation="finetune" if labels["base"] else None,
        datasets=[labels["data"]] if labels["data"] else None,
        language=list(recipe.card.language) or None,
        license=recipe.card.license,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=list(dict.fromkeys([*tags, *recipe.card.tags])),
        eval_results=_results(recipe, values["scores"]) or None,
    )
    return str(data.to_yaml())


def _results(recipe: Recipe, scores: Mapping[str, Any]) -> list[Any]:
    """Return the finished model's scores as the Hub's model-index has them."""
    from huggingface_hub import EvalResult

    found = scores.get("tuned", {})
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type="prompts",
            dataset_name=f"{found['prompts']} held-out prompts",
            metric_type=name,
            metric_name=label,
            metric_value=found[name],
        )
        for name, label in METRICS.items()
        if name in found
    ]


def _label(source: Source, what: str) -> str:
    """Return what people call a source; a folder's name means nothing elsewhere."""
    return f"a {what} of its maker's own" if source.way == "path" else source.label


def _spelt(value: Any) -> str:
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _example(report: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the first prompt that tuning put right, with both answers."""
    for row in report["prompts"]:
        if {"base", "tuned"} <= row.keys() and row["tuned"]["valid"] > row["base"]["valid"]:
            asked = row["messages"][-1]["content"]
            return {
                "asked": _quoted(asked),
                "before": _quoted(row["base"]["answer"]),
                "after": _quoted(row["tuned"]["answer"]),
            }
    return None


def _quoted(text: str, most: int = 600) -> str:
    """Return a text as a block of code in Markdown, which it cannot end."""
    short = text if len(text) <= most else f"{text[:most]} …"
    return "\n".join(f"    {line}" for line in short.splitlines() or [""])
