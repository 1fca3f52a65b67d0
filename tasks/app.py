"""Give FastGPT the model's entry and chat through FastGPT.

What goes in: the recipe, and the model as `gateway` left it.
What comes out: config.json with the entry alone, docker-compose.yml and env.example, each useful
by itself; and, where the settings say where FastGPT is, the entry in there.  Up to 4.8.19 that is
its config.json, with the file before beside it and the container restarted; from 4.8.20 on it is
its database.  Which of them is asked, not assumed.

A knowledge base also needs an entry in `vectorModels` and a chat model with `datasetProcess: true`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import base, gateway, serve
from .core import console, paths, pins, settings
from .core.engine import stage
from .core.engine.journal import Journal
from .core.engine.manifest import Manifest
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.fastgpt import composefile
from .core.recipe import Recipe, present

if TYPE_CHECKING:
    from .core.fastgpt.home import Home

VERSION = 3
# What FastGPT has is asked for there, never taken from a store.
STORED = False
# Where no FastGPT is set, its files are made.
ALONE = True

STATE = "app.json"


def wanted(recipe: Recipe) -> bool:
    """Return whether the recipe has an application."""
    return recipe.app is not None


def task(recipe: Recipe) -> TaskDict:
    return {
        "doc": f"{model(recipe)} -> FastGPT",
        "file_dep": [*before(recipe), paths.TEMPLATES / composefile.TEMPLATE],
        "targets": ["config.json", "docker-compose.yml", "env.example", STATE],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    """Return the entry, what it is held against, images, and where it goes; never a key."""
    from .core.serving import serving

    found = settings.current()
    return {
        "entry": values(recipe),
        "images": composefile.images(recipe),
        "context_length": serving.context_length(recipe),
        "endpoint": found.fastgpt_endpoint,
        "folder": bool(found.fastgpt_dir),
    }


def before(recipe: Recipe) -> list[Path]:
    """Return the manifest of the stage that the model must have gone through to be chatted with.

    The files alone, without FastGPT, need no model.
    """
    if lacks(recipe):
        return []
    if recipe.gateway and not gateway.lacks(recipe):
        return [paths.manifest(recipe.name, "gateway")]
    return [paths.manifest(recipe.name, "serve")] if recipe.serve else []


def lacks(recipe: Recipe) -> str:
    """Return the setting without which there is no FastGPT to go to."""
    found = settings.current()
    return "" if found.fastgpt_dir or found.fastgpt_endpoint else "MODELWRIGHT_FASTGPT_DIR"


def model(recipe: Recipe) -> str:
    """Return what FastGPT asks the gateway for."""
    own = present(recipe.app).fastgpt.model
    served = serve.name(recipe) if recipe.serve else recipe.name
    return own or (gateway.model(recipe) if recipe.gateway else served)


def values(recipe: Recipe) -> dict[str, Any]:
    """Return the model's entry."""
    from .core.fastgpt import entry

    return entry.entry(recipe, model(recipe))


def drifted(recipe: Recipe) -> str:
    """Return how FastGPT no longer has what it was given."""
    if lacks(recipe):
        return ""
    from .core.fastgpt import home

    try:
        state = _journal(recipe).read()
        with home.at(paths.log(recipe.name, "app"), home.QUICK) as there:
            return there.lacking(values(recipe), state)
    except UserError as error:
        return str(error)


def update(recipe: Recipe) -> None:
    """Look the digests of the compose file's images up anew."""
    pins.update(recipe, composefile.IMAGES.values())


def check(recipe: Recipe) -> None:
    """Refuse an address that is none and an entry that the model could not keep, before all else.

    How long the context of a base is that is not here yet, only `run` knows.
    """
    from .core.serving import serving
    from .core.web import address

    address.check("fastgpt_endpoint")
    if recipe.base.path or stage.is_fresh("base", base, recipe):
        _judge(recipe, values(recipe), serving.context_length(recipe))
    elif present(recipe.app).fastgpt.maxContext:
        _judge(recipe, values(recipe), recipe.serve.context_length if recipe.serve else None)


def run(recipe: Recipe, folder: Path) -> Facts:
    from .core.fastgpt import configtext, passwords
    from .core.serving import serving

    made = values(recipe)
    _judge(recipe, made, serving.context_length(recipe))
    images = composefile.images(recipe)
    text = composefile.text(images)
    pins.mention(recipe, images.values())
    (folder / "config.json").write_text(configtext.alone(made), encoding="utf-8")
    (folder / "docker-compose.yml").write_text(text, encoding="utf-8")
    example = "".join(f"{name}=\n" for name in passwords.needed(text))
    (folder / "env.example").write_text(example, encoding="utf-8")
    state = _journal(recipe).read() if lacks(recipe) else _give(recipe, made)
    # What was there before may hold somebody's key: the note alone has it, for us alone to read.
    shown = {name: value for name, value in state.items() if name != "before"}
    (folder / STATE).write_text(json.dumps(shown, indent=1) + "\n", encoding="utf-8")
    return {"model": made["model"], "kept_in": state.get("kept_in", "these files alone")}


def undo(recipe: Recipe, receipt: Manifest | None) -> list[str]:
    """Take the entry out again, or put back the one that was there before us."""
    state = _journal(recipe).read()
    if not state:
        return []
    if lacks(recipe):
        raise UserError(
            f"{state['model']} is in FastGPT's {state['kept_in']}; set MODELWRIGHT_FASTGPT_DIR or "
            "MODELWRIGHT_FASTGPT_ENDPOINT again, to take it out"
        )
    from .core.fastgpt import home

    with home.at(paths.log(recipe.name, "app")) as there, there.held():
        return there.take_back(_journal(recipe))


def _judge(recipe: Recipe, made: dict[str, Any], limit: int | None) -> None:
    from .core.fastgpt import entry

    if wrong := entry.faults(recipe, made, limit):
        raise UserError("\n".join(wrong))


def _give(recipe: Recipe, made: dict[str, Any]) -> dict[str, Any]:
    """Give FastGPT the entry and chat through it; return what a later run must know."""
    from .core.fastgpt import home

    with home.at(paths.log(recipe.name, "app"), images=composefile.images(recipe)) as there:
        with there.held():
            state = there.give(made, _journal(recipe))
        _chat(there)
    return state


def _chat(there: Home) -> None:
    """Chat through one of FastGPT's applications."""
    if not settings.current().fastgpt_key:
        console.say("   MODELWRIGHT_FASTGPT_KEY, an application's key, would chat through FastGPT")
        return
    from .core.gateways.upkeep import QUESTION

    answer = there.chat(QUESTION)
    console.say(f"   FastGPT answers: {' '.join(answer.split())[:60]}")


def _journal(recipe: Recipe) -> Journal:
    """Return where it is noted what FastGPT was given."""
    return Journal(recipe.name, "app")
