"""What a build cost: the ledger's times, and what training's log says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..console import duration, size
from ..engine import ledger
from ..recipe import Recipe
from . import state
from .state import Step


def runs(model: str) -> list[ledger.Line]:
    """Return the ledger's lines on a model, but for those on its page."""
    return [
        line
        for line in ledger.lines()
        if line.get("model") == model
        and line.get("stage") != state.TELLS
        and isinstance(line.get("seconds"), int | float)
    ]


def table(recipe: Recipe, steps: Sequence[Step]) -> dict[str, Any]:
    """Return what each result took, and what all runs of the model took together."""
    made = [step for step in steps if step.run and step.receipt]
    spent = runs(recipe.name)
    return {
        "rows": [_row(step) for step in made],
        "devices": devices(recipe, made),
        "seconds": duration(sum(step.seconds or 0 for step in made)),
        "bytes": size(sum(step.receipt.size for step in made if step.receipt)),
        "restored": sum(step.run.get("how") == "restored" for step in made if step.run),
        "runs": len(spent),
        "spent": duration(sum(line["seconds"] for line in spent)),
    }


def devices(recipe: Recipe, made: Sequence[Step]) -> str:
    """Return what training held, in words: devices times time is what clusters count."""
    seconds = sum(step.seconds or 0 for step in made if step.stage == "train")
    if not (recipe.train and seconds):
        return ""
    count = recipe.train.launch.devices
    held = f"{count} device{'s' if count > 1 else ''} for {duration(seconds)}"
    return f"{held}, {count * seconds / 3600:.2f} device hours"


def _row(step: Step) -> dict[str, str]:
    assert step.run is not None
    assert step.receipt is not None
    when = str(step.run.get("time", "")).replace("T", " ").removesuffix("Z")
    return {
        "stage": step.stage,
        "time": duration(step.seconds or 0),
        "size": size(step.receipt.size),
        "how": str(step.run.get("how", "")),
        "when": f"{when} UTC" if when else "",
        "host": str(step.run.get("host", "")),
    }
