"""Write the page over all models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import paths
from ..engine import whole
from ..engine.stage import Stage
from ..recipe import Recipe
from . import content, page, state
from .state import FRESH, MISSING, STALE

TEMPLATE = "report/index.html.j2"


def write(told_of: Callable[[Recipe], Mapping[str, Stage]], recipes: Sequence[Recipe]) -> Path:
    """Write build/index.html, with a link to each model's page, and return where it is.

    Args:
        told_of: gives the stages that a model's page tells of.
    """
    rows = [row(told_of(recipe), recipe) for recipe in recipes]
    built = sum(row["kind"] != "not-built" for row in rows)
    path = paths.build() / page.NAME
    whole.write(path, page.html(TEMPLATE, models=rows, built=built))
    return path


def row(stages: Mapping[str, Stage], recipe: Recipe) -> dict[str, Any]:
    """Return what the table tells of a model."""
    steps = state.steps(stages, recipe)
    have = [step for step in steps if step.receipt]
    current = sum(step.state == FRESH for step in steps)
    kind = MISSING if not have else STALE if any(s.state == STALE for s in have) else FRESH
    place = Path(recipe.name) / state.TELLS / page.NAME
    summary = content.summary(recipe, {step.stage: step for step in steps})
    return {
        "model": recipe.name,
        "origin": f"{recipe.base.label} ({recipe.base.way})",
        "page": str(place) if (paths.build() / place).is_file() else "",
        "kind": kind.replace(" ", "-"),
        "state": f"{current} of {len(steps)} stages current" if have else MISSING,
        "summary": defaultdict(str, summary),
    }
