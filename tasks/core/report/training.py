"""How training went: its curves, its numbers, and the checkpoints that it left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..console import size
from ..recipe import Recipe
from . import charts, curves
from .state import Step

# Curves: the log's name, what people call it, whether its axis starts at zero.
CURVES = (
    ("loss", "Loss", False),
    ("lr", "Learning rate", True),
    ("tokens_per_sec", "Tokens a second", True),
)


def told(recipe: Recipe, chosen: Step | None) -> dict[str, Any] | None:
    """Return the curves, and in words what training came to.

    Args:
        chosen: the stage that chose among the checkpoints, if there is one.
    """
    path = curves.source(recipe.name) if recipe.train else None
    found = curves.read(path) if path else {}
    drawn = [(label, curves.curve(found[n]), zero) for n, label, zero in CURVES if found.get(n)]
    if not drawn:
        return None
    return {
        "curves": [
            {
                "label": label,
                "svg": charts.line(label, curve, zero=zero),
                "scale": "logarithmic" if not zero and charts.is_wide(curve) else "",
                "told": charts.spoken(label, curve).partition(": ")[2],
            }
            for label, curve, zero in drawn
        ],
        "table": _sampled(found),
        "facts": list(_facts(curves.summary(found))),
        "checkpoints": checkpoints(chosen.receipt.facts) if chosen and chosen.receipt else "",
    }


def _sampled(found: Mapping[str, curves.Values]) -> dict[str, Any]:
    """Return a dozen of the logged iterations, for those who read rather than see."""
    names = [(name, label) for name, label, _ in CURVES if found.get(name)]
    by_name = {name: dict(found[name]) for name, _ in names}
    at = list(by_name[names[0][0]])
    chosen = sorted({at[round(n * (len(at) - 1) / 11)] for n in range(12)})
    cells = [
        [f"{charts.number(by_name[n][i])}" if i in by_name[n] else "" for n, _ in names]
        for i in chosen
    ]
    return {
        "labels": [label for _, label in names],
        "rows": list(zip(chosen, cells, strict=True)),
    }


def checkpoints(facts: Mapping[str, Any]) -> str:
    """Return the score of each checkpoint as bars, the one that was taken marked."""
    scores = {name.removeprefix("iter_"): share for name, share in facts["scores"].items()}
    return charts.bars("Valid tool calls by checkpoint", scores, str(facts["checkpoint"]))


def _facts(found: Mapping[str, float]) -> Iterator[tuple[str, str]]:
    """Yield what training used, in words."""
    if "tokens_per_sec" in found:
        yield "tokens a second, mean", charts.number(found["tokens_per_sec"])
    if "seconds_per_iteration" in found:
        yield "seconds an iteration, mean", charts.number(found["seconds_per_iteration"])
        yield "of that, waiting for data", f"{100 * found['waiting']:.1f}%"
    if "memory" in found:
        yield "memory of a device, most", size(found["memory"])
