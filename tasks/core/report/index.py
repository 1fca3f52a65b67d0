"""Write the page over all models."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .. import paths
from ..engine import whole
from ..engine.stage import Stage
from ..recipe import Recipe
from . import content, page, state
from .state import FRESH, MISSING, STALE

TEMPLATE = "report/index.html.j2"


def write(
    told_of: Callable[[Recipe], Mapping[str, Stage]],
    recipes: Sequence[Recipe],
    broken: Iterable[str] = (),
) -> Path:
    """Write build/index.html, with a link to each model's page, and return where it is.

    Args:
        told_of: gives the stages that a model's page tells of.
        broken: names of models whose recipes cannot be read.
    """
    rows = [row(told_of(recipe), recipe) for recipe in recipes]
    built = sum(row["kind"] != "not-built" for row in rows)
    unread = [_unread(name) for name in broken]
    shown = sorted([*rows, *unread], key=lambda row: row["model"])
    path = paths.build() / page.NAME
    text = page.html(TEMPLATE, models=shown, built=built, unread=len(unread))
    # A broken recipe's file may have any name, one that is not UTF-8 as well.
    whole.write(path, text.encode(errors="backslashreplace"))
    return path


def row(stages: Mapping[str, Stage], recipe: Recipe) -> dict[str, Any]:
    """Return what the table tells of a model."""
    steps = state.steps(stages, recipe)
    have = [step for step in steps if step.receipt]
    current = sum(step.state == FRESH for step in steps)
    kind = MISSING if not have else STALE if any(s.state == STALE for s in have) else FRESH
    summary = content.summary(recipe, {step.stage: step for step in steps})
    return {
        "model": recipe.name,
        "origin": f"{recipe.base.label} ({recipe.base.way})",
        "page": _page(recipe.name),
        "kind": kind.replace(" ", "-"),
        "state": f"{current} of {len(steps)} stages current" if have else MISSING,
        "summary": defaultdict(str, summary),
    }


def _unread(name: str) -> dict[str, Any]:
    """Return what the table tells of a model whose recipe cannot be read: its page as it was."""
    return {
        "model": name,
        "origin": f"`doit info {shlex.quote(name)}` says why",
        "page": _page(name),
        "kind": STALE,
        "state": "cannot be read",
        "summary": defaultdict(str),
    }


def _page(model: str) -> str:
    """Return where a model's page is, from the build folder on; nothing if there is none."""
    place = Path(model) / state.TELLS / page.NAME
    return quote(bytes(place)) if (paths.build() / place).is_file() else ""
