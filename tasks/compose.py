"""Write a compose file for what serves the model.

What goes in: the recipe.  No weights are needed; the model's folder, or the image, is named.
What comes out: `compose.yaml`, for `docker compose up`.  Nothing is started.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from . import push
from .core import paths, pins, render, settings
from .core.engine.stage import Facts, TaskDict
from .core.recipe import Recipe, present

VERSION = 1

FILE = "compose.yaml"


def wanted(recipe: Recipe) -> bool:
    """Return whether the model is served; vLLM is started from an image of ours."""
    return recipe.serve is not None and (recipe.serve.by != "vllm" or recipe.image is not None)


def task(recipe: Recipe) -> TaskDict:
    return {
        "doc": f"{present(recipe.serve).by} -> {FILE}",
        "file_dep": [paths.TEMPLATES / template(recipe)],
        "targets": [FILE],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    return variables(recipe)


def template(recipe: Recipe) -> str:
    """Return the template for what serves the model."""
    return f"compose-{present(recipe.serve).by}.yaml.j2"


def variables(recipe: Recipe) -> dict[str, Any]:
    """Return what the template is filled in with."""
    gpus = present(recipe.serve).gpus
    common = {
        "model": recipe.name,
        "path": f"build/{recipe.name}/compose/{FILE}",
        "gpus": "all" if gpus == "auto" else gpus,
    }
    if present(recipe.serve).by == "vllm":
        from .core.vllm import server as vllm

        port = ["--port", str(vllm.PORT)]
        words = {"arguments": [*vllm.arguments(recipe), *port], "port": vllm.PORT}
        return {**common, **words, "image": push.pinned(recipe)}
    from .core.xinference import server as xinference

    return {
        **common,
        "image": pins.pinned(recipe, settings.current().xinference_image),
        "port": xinference.PORT,
        "models": xinference.MODELS,
        "build": "../..",
        "folder": f"{recipe.name}/{recipe.weights}",
        "own": _own(recipe),
        "trust_remote_code": recipe.base.trust_remote_code,
    }


def update(recipe: Recipe) -> None:
    """Look the digest of Xinference's image up anew; that of our own comes with a push."""
    if present(recipe.serve).by == "xinference":
        pins.update(recipe, [settings.current().xinference_image])


def run(recipe: Recipe, folder: Path) -> Facts:
    values = variables(recipe)
    (folder / FILE).write_text(render.text(template(recipe), **values), encoding="utf-8")
    if present(recipe.serve).by == "xinference":
        pins.mention(recipe, [values["image"]])
    return {"by": present(recipe.serve).by}


def _own(recipe: Recipe) -> str | None:
    """Return the user's own folder as compose.yaml names it, where the model is just that."""
    if recipe.tuned or not recipe.base.path:
        return None
    here = paths.output(recipe.name, "compose").absolute()
    return os.path.relpath(recipe.beside(recipe.base.path).absolute(), here)
