"""A model's entry in FastGPT: the document's twenty fields, and what they are held against."""

from __future__ import annotations

import json
from typing import Any

from .. import catalog
from ..engine import manifest
from ..errors import UserError
from ..recipe import Recipe, present
from ..serving import serving

# The document's own, where nothing tells how long the model's context is.
CONTEXT = 8000


def entry(recipe: Recipe, model: str) -> dict[str, Any]:
    """Return the entry in the document's order; what the recipe leaves out is found out.

    Args:
        model: what the gateway's clients ask for.
    """
    given = present(recipe.app).fastgpt.model_dump(mode="json")
    context = given["maxContext"] or serving.context_length(recipe) or CONTEXT
    found = {
        "model": model,
        "name": recipe.name,
        "maxContext": context,
        "maxResponse": context,
        "quoteMaxToken": context,
        "vision": sees(recipe),
        "toolChoice": calls_tools(recipe),
    }
    return {
        field: _plain(found.get(field) if value is None else value)
        for field, value in given.items()
    }


def sees(recipe: Recipe) -> bool:
    """Return whether the model's architecture reads pictures."""
    try:
        return "image" in catalog.row(recipe).modality
    except UserError:
        return False


def calls_tools(recipe: Recipe) -> bool:
    """Return whether the served model answers with OpenAI's tool calls: as `serve` found out."""
    receipt = manifest.of(recipe.name, "serve") if recipe.serve else None
    if receipt:
        return bool(receipt.facts.get("tools"))
    return bool(recipe.image and recipe.image.tool_parser)


def faults(recipe: Recipe, values: dict[str, Any], limit: int | None) -> list[str]:
    """Return what FastGPT would take and the model could not keep.

    Args:
        values: the entry.
        limit: how many tokens the model takes, if that is known.
    """
    at, context = f"{recipe.file}: app.fastgpt", values["maxContext"]
    found = [
        f"{at}.{field}: {values[field]} is more than maxContext; give it {context} or less"
        for field in ("maxResponse", "quoteMaxToken")
        if values[field] > context
    ]
    if limit is not None and context > limit:
        found.append(
            f"{at}.maxContext: {context} is more than the {limit} tokens that "
            f"{recipe.base.label} takes; give it {limit} or less"
        )
    try:
        json.dumps(values, allow_nan=False)
    except ValueError:
        found.append(f"{at}: JSON has no .inf and no .nan; give a number")
    return found


def _plain(value: Any) -> Any:
    """Return a number without a fraction as the whole number that the document writes."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
