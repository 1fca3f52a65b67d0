"""Write the page about one model's build: one file, without network, of what is there now."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import paths, render
from ..engine import digests, lock, manifest, whole
from ..engine.stage import Stage, known_fresh
from ..recipe import Recipe
from . import answers, content, costs, curves, reproduce, state
from .state import Step

NAME = "index.html"
TEMPLATE = "report.html.j2"
STAMP = re.compile(rb'<meta name="made-from" content="(sha256:[0-9a-f]{64})">')


def write(stages: Mapping[str, Stage], recipe: Recipe) -> Path:
    """Write a model's page and return where it is.

    Raises:
        OSError: it cannot be written.
    """
    steps = state.steps(stages, recipe)
    text = html(TEMPLATE, **content.variables(recipe, steps), stamp=stamp(recipe, steps))
    path = paths.output(recipe.name, state.TELLS) / NAME
    with lock.held(recipe.name, state.TELLS):
        whole.write(path, text)
    return path


def is_current(stages: Mapping[str, Stage], recipe: Recipe) -> bool:
    """Return whether the page tells of what is there now."""
    path = paths.output(recipe.name, state.TELLS) / NAME
    try:
        with path.open("rb") as file:
            found = STAMP.search(file.read(4096))
    except OSError:
        return False
    if not found:
        return False
    steps = state.steps(stages, recipe, known_fresh(stages, recipe))
    return found[1].decode() == stamp(recipe, steps)


def stamp(recipe: Recipe, steps: Sequence[Step]) -> str:
    """Return the digest of all that the page is made from: results, times, logs, the recipe."""
    logs = (curves.source(recipe.name), answers.source(recipe.name))
    return manifest.digest_of(
        [
            steps,
            costs.runs(recipe.name),
            [digests.of_bytes(p.read_bytes()) if p and p.is_file() else None for p in logs],
            reproduce.recipe_files(recipe),
        ]
    )


def html(template: str, **values: Any) -> str:
    """Return a page with our style and script, which a policy allows and nothing else.

    What models wrote is in the page; were it ever taken for a script, no browser would run it.
    """
    style, script = (render.text(f"report/{name}") for name in ("style.css", "script.js"))
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'"
    )
    return render.text(template, style=style, script=script, policy=policy, **values)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
