"""Write the model card: README.md with the Hub's header.

It is made from the recipe, the data's statistics and the evaluation.  The weights come before the
evaluation, so the card is a result of its own, and a copy of it is laid beside the weights, for
those who send that folder to a Hub.  The copy is no file of the merge: images and archives are made
without it, and need not wait for an evaluation; `upload` sends it as `README.md`.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from doit.exceptions import TaskFailed

from .core import modelcard, paths, render
from .core.engine import lock, manifest
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError, reason
from .core.model import modelfiles
from .core.recipe import Recipe

VERSION = 1
TEMPLATE = "card.md.j2"


def wanted(recipe: Recipe) -> bool:
    """Return whether the model is a new one; its base has a card of its own."""
    return recipe.tuned


def task(recipe: Recipe) -> TaskDict:
    before = ["base", *_made_from(recipe), "merge"]
    own = [recipe.beside(recipe.card.text)] if recipe.card.text else []
    return {
        "doc": f"{', '.join(before)} -> {modelfiles.CARD}",
        "file_dep": [
            *(paths.manifest(recipe.name, stage) for stage in before),
            paths.TEMPLATES / TEMPLATE,
            *own,
        ],
        "targets": [modelfiles.CARD],
        "actions": [(lay_beside, [recipe])],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    """Return what the card tells of the recipe; a folder's place is nobody's business."""
    told = modelcard.told(recipe)
    return {"model": recipe.name, **told, **recipe.slice(*modelcard.SHOWN, "card")}


def drifted(recipe: Recipe) -> str:
    """Return that the card does not lie beside the weights as it is, or nothing."""
    try:
        same = _beside(recipe).read_bytes() == _card(recipe).read_bytes()
    except OSError:
        same = False
    return "" if same else f"{modelfiles.CARD} does not lie beside the weights"


def run(recipe: Recipe, folder: Path) -> Facts:
    facts = {
        stage: receipt.facts
        for stage in ("base", *_made_from(recipe), "merge")
        if (receipt := manifest.of(recipe.name, stage))
    }
    values = modelcard.variables(recipe, facts)
    text = render.text(TEMPLATE, header=modelcard.header(recipe, values), **values)
    (folder / modelfiles.CARD).write_text(text, encoding="utf-8")
    return {"license": values["license"]} if values["license"] else {}


def lay_beside(recipe: Recipe) -> TaskFailed | None:
    """Copy the card beside the weights; the second action of the task."""
    aside = paths.output(recipe.name, ".card.new")
    try:
        with lock.held(recipe.name, "merge"):
            shutil.copyfile(_card(recipe), aside)
            aside.replace(_beside(recipe))
    except (UserError, OSError) as error:
        return TaskFailed(reason(error, paths.build()))
    return None


def _made_from(recipe: Recipe) -> list[str]:
    """Return the stages, besides base and merge, that the card tells of."""
    asked = {"data": recipe.data, "convert": recipe.data, "train": recipe.train}
    return [stage for stage, part in {**asked, "evaluate": recipe.evaluate}.items() if part]


def _card(recipe: Recipe) -> Path:
    return paths.output(recipe.name, "card") / modelfiles.CARD


def _beside(recipe: Recipe) -> Path:
    return paths.output(recipe.name, "merge") / modelfiles.CARD
