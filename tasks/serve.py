"""Serve the model: registered, launched and answering in Xinference, or in vLLM.

What goes in: the finished model.  Where it is served is a setting: an endpoint that is there, a
container that we start, or a process of this machine; the last two stay when the build is over.
What comes out: `answers.json`, with the answers to one chat question and one tool question, and for
Xinference the registration.  What is there already is left as it is; what was stopped, changed or
lost there is put back when the stage is named.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

from .core import console, identity, paths
from .core.engine import manifest
from .core.engine.manifest import Manifest
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.recipe import Recipe
from .core.sections import Serve
from .core.vllm import backend as vllm
from .core.xinference import backend as xinference

VERSION = 1
# What a server runs is asked for there, never taken from a store.
STORED = False

BACKENDS: dict[str, ModuleType] = {"xinference": xinference, "vllm": vllm}


def wanted(recipe: Recipe) -> bool:
    return recipe.serve is not None


def task(recipe: Recipe) -> TaskDict:
    depends = backend(recipe).depends(recipe)
    own = _serve(recipe).chat_template
    depends["file_dep"] += [recipe.beside(own)] if own else []
    depends["file_dep"] += [paths.manifest(recipe.name, stage) for stage in recipe.gates]
    return {
        "doc": f"{recipe.name} -> {_serve(recipe).by}",
        "targets": ["answers.json"],
        **depends,
    }


def key(recipe: Recipe) -> dict[str, Any]:
    part = recipe.slice("serve", "base.trust_remote_code")
    return {**part, "endpoint": endpoint(recipe), **backend(recipe).key(recipe)}


def settle(recipe: Recipe) -> None:
    """Make the mark that a registration is to bear; vLLM takes none."""
    if backend(recipe) is xinference:
        identity.settle(recipe)


def backend(recipe: Recipe) -> Any:
    """Return the module that knows what serves the model."""
    return BACKENDS[_serve(recipe).by]


def name(recipe: Recipe) -> str:
    """Return the name by which clients ask for the model."""
    return _serve(recipe).name or recipe.name


def endpoint(recipe: Recipe) -> str:
    """Return the server's address as this machine sees it, without /v1."""
    return str(backend(recipe).place(recipe).endpoint)


def api_key(recipe: Recipe) -> str:
    """Return the key that chats have to show; a secret, empty where there is none."""
    return str(backend(recipe).api_key())


def drifted(recipe: Recipe) -> str:
    """Return what the server no longer has as it was left, or nothing."""
    by, receipt = backend(recipe), _receipt(recipe)
    try:
        return str(by.drift(recipe, by.place(recipe), receipt)) if receipt else ""
    except UserError as error:
        return str(error).splitlines()[0]


def undo(recipe: Recipe, receipt: Manifest | None) -> list[str]:
    """Take the model away from its server, and a server of ours with it; say what went."""
    by = _made_by(recipe, receipt)
    if there := _elsewhere(recipe, receipt):
        raise UserError(
            f"the model is in the server at {there}; set MODELWRIGHT_XINFERENCE_ENDPOINT or "
            "MODELWRIGHT_SERVE_PORT to that and unship, or, if that server is no more, delete "
            f"{paths.manifest(recipe.name, 'serve')}"
        )
    lines: list[str] = by.undo(recipe, by.place(recipe), receipt)
    return lines


def run(recipe: Recipe, folder: Path) -> Facts:
    by, receipt = backend(recipe), _receipt(recipe)
    before = _made_by(recipe, receipt)
    if there := _elsewhere(recipe, receipt):
        console.say(f"   the model at {there} stays; unship before the server is another")
        receipt = None
    elif before is not by:
        for line in before.undo(recipe, before.place(recipe), receipt):
            console.say(f"   {line}")
        receipt = None
    facts: Facts = by.serve(recipe, by.place(recipe), folder, receipt)
    # The words of the answers are for people, and wake nothing.
    return {**facts, "content": manifest.digest_of(facts)}


def _receipt(recipe: Recipe) -> Manifest | None:
    return manifest.read(paths.manifest(recipe.name, "serve"))


def _made_by(recipe: Recipe, receipt: Manifest | None) -> Any:
    """Return the module that knows what the last run left; the recipe may name another by now."""
    told = receipt.inputs.get("recipe", {}).get("serve.by") if receipt else None
    return BACKENDS.get(told or "", backend(recipe))


def _elsewhere(recipe: Recipe, receipt: Manifest | None) -> str:
    """Return the Xinference where the model was left, where that is not the one of the settings.

    A vLLM of ours is found by the model's name, and one that is not ours was given nothing.
    """
    was = receipt.inputs.get("recipe", {}).get("endpoint") if receipt else None
    by = _made_by(recipe, receipt)
    is_here = by is not xinference or was in (None, by.place(recipe).endpoint)
    return "" if is_here else str(was)


def _serve(recipe: Recipe) -> Serve:
    assert recipe.serve is not None
    return recipe.serve
