"""Serve the model: registered, launched and answering in Xinference, or in vLLM.

What goes in: the finished model.  Where it is served is a setting: an endpoint that is there, a
container that we start, or a process of this machine; the last two stay when the build is over.
What comes out: `answers.json`, with the answers to one chat question and one tool question, and for
Xinference the registration.  What is there already is left as it is; what was stopped, changed or
lost there is put back when the stage is named.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core import console, identity, paths
from .core.engine import manifest
from .core.engine.manifest import Manifest
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.recipe import Recipe, present

if TYPE_CHECKING:
    from .core.serving.serving import Place

VERSION = 1
# What a server runs is asked for there, never taken from a store.
STORED = False

XINFERENCE, VLLM = "xinference", "vllm"


def wanted(recipe: Recipe) -> bool:
    return recipe.serve is not None


def task(recipe: Recipe) -> TaskDict:
    depends = backend(recipe).depends(recipe)
    own = present(recipe.serve).chat_template
    depends["file_dep"] += [recipe.beside(own)] if own else []
    depends["file_dep"] += [paths.manifest(recipe.name, stage) for stage in recipe.gates]
    return {
        "doc": f"{recipe.name} -> {present(recipe.serve).by}",
        "targets": ["answers.json"],
        **depends,
    }


def key(recipe: Recipe) -> dict[str, Any]:
    part = recipe.slice("serve", "base.trust_remote_code")
    at = backend(recipe).place(recipe)
    return {**part, "way": at.way, "endpoint": at.endpoint, **backend(recipe).key(recipe)}


def settle(recipe: Recipe) -> None:
    """Make the mark that a registration is to bear; vLLM takes none."""
    if present(recipe.serve).by == XINFERENCE:
        identity.settle(recipe)


def check(recipe: Recipe) -> None:
    """Refuse an address of a server that is none, before a model is made for it."""
    endpoint(recipe)


def backend(recipe: Recipe) -> Any:
    """Return the module that knows what serves the model."""
    return _backend(present(recipe.serve).by)


def _backend(kind: str) -> Any:
    return import_module(f".core.{kind}.backend", __package__)


def name(recipe: Recipe) -> str:
    """Return the name by which clients ask for the model."""
    return present(recipe.serve).name or recipe.name


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
    by, at = _made_by(recipe, receipt), _left_at(recipe, receipt)
    if _is_elsewhere(recipe, by, at):
        raise UserError(
            f"the model is in the server at {at.endpoint}; set MODELWRIGHT_XINFERENCE_ENDPOINT to "
            "that and unship, or, if that server is no more, delete "
            f"{paths.manifest(recipe.name, 'serve')}"
        )
    return _undo(recipe, by, at, receipt)


def run(recipe: Recipe, folder: Path) -> Facts:
    by, receipt = backend(recipe), _receipt(recipe)
    here, before, left = by.place(recipe), _made_by(recipe, receipt), _left_at(recipe, receipt)
    if _is_elsewhere(recipe, before, left):
        console.say(f"   the model at {left.endpoint} stays; unship before the server is another")
        receipt = None
    elif before is not by or _has_moved(left, here):
        for line in _undo(recipe, before, left, receipt):
            console.say(f"   {line}")
        receipt = None
    facts: Facts = by.serve(recipe, here, folder, receipt)
    # The words of the answers are for people, and wake nothing.
    return {**facts, "content": manifest.digest_of(facts)}


def _receipt(recipe: Recipe) -> Manifest | None:
    return manifest.of(recipe.name, "serve")


def _made_by(recipe: Recipe, receipt: Manifest | None) -> Any:
    """Return the module that knows what the last run left; the recipe may name another by now."""
    told = receipt.inputs.get("recipe", {}).get("serve.by") if receipt else None
    return _backend(told if told in (XINFERENCE, VLLM) else present(recipe.serve).by)


def _left_at(recipe: Recipe, receipt: Manifest | None) -> Place:
    """Return where the last run left the model; where the settings say, if none is known.

    A server of ours is found by that alone, whatever the settings say by now.
    """
    from .core.serving import serving

    by = _made_by(recipe, receipt)
    told = receipt.inputs.get("recipe", {}) if receipt else {}
    known = {"way", "endpoint"} <= told.keys()
    found: Place = (
        serving.left(by.KIND, told["way"], told["endpoint"], by.owner(recipe))
        if known
        else by.place(recipe)
    )
    return found


def _is_elsewhere(recipe: Recipe, by: Any, left: Place) -> bool:
    """Return whether the model is in an Xinference that is not ours, and not that of the settings.

    A vLLM that is not ours was given nothing.
    """
    is_given = by.KIND == XINFERENCE and left.way == "endpoint"
    return is_given and left.endpoint != by.place(recipe).endpoint


def _has_moved(left: Place, here: Place) -> bool:
    """Return whether the model is in a server of ours that the settings no longer mean."""
    is_same = here.way == "endpoint" and here.endpoint == left.endpoint
    return left.way != "endpoint" and (left.way, left.name) != (here.way, here.name) and not is_same


def _undo(recipe: Recipe, by: Any, at: Place, receipt: Manifest | None) -> list[str]:
    """Take the model away from a place; return a line on each thing.

    Raises:
        UserError: that cannot be done from here; the receipt stays.
    """
    try:
        lines: list[str] = by.undo(recipe, at, receipt)
    except UserError as error:
        if receipt is None or at.way == "endpoint":
            raise
        raise UserError(
            f"{error}\nthe model was left in {at.name} ({at.way}, {at.endpoint}); if that is no "
            f"more, delete {paths.manifest(recipe.name, 'serve')}"
        ) from None
    return lines
