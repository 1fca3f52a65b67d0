"""Give the model a channel at the gateway and chat through it.

What goes in: the model as `serve` left it, answering.
What comes out: a channel at One API, new-api or AI Proxy, found by its name, changed where it
differs, tested with a chat request; and `channel.json`, which says what is there and what was
there before.  A channel of the same name that serves other models is nobody's to change.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import serve
from .core import console, manifest, paths, settings
from .core.errors import UserError
from .core.manifest import Manifest
from .core.recipe import Recipe
from .core.stage import Facts, TaskDict

if TYPE_CHECKING:
    from .core.gateways import Channel, Gateway

VERSION = 1
# What is at a gateway is asked for there, never taken from a store.
STORED = False

CHANNEL = "channel.json"
# A gateway that has just been started waits for its database first.
START = 60.0
QUICK = 3.0


def wanted(recipe: Recipe) -> bool:
    return recipe.gateway is not None


def task(recipe: Recipe) -> TaskDict:
    before = ["serve"] if recipe.serve else []
    return {
        "doc": f"{model(recipe)} -> channel {name(recipe)}",
        "file_dep": [paths.manifest(recipe.name, stage) for stage in before],
        "targets": [CHANNEL],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    """Return the channel as it is wanted, and where; never a key or a token."""
    found = settings.current()
    return {
        **recipe.slice("gateway"),
        "channel": name(recipe),
        "model": model(recipe),
        "served": served(recipe),
        "kind": found.gateway_kind,
        "endpoint": found.gateway_endpoint,
        "upstream": upstream(recipe),
    }


def lacks(recipe: Recipe) -> str:
    """Return the setting without which no gateway can be asked."""
    return "" if settings.current().gateway_endpoint else "MODELWRIGHT_GATEWAY_ENDPOINT"


def name(recipe: Recipe) -> str:
    """Return what the channel is called."""
    assert recipe.gateway is not None
    return recipe.gateway.name or recipe.name


def model(recipe: Recipe) -> str:
    """Return what the gateway's clients ask for."""
    own = recipe.gateway.model if recipe.gateway else None
    return own or served(recipe)


def served(recipe: Recipe) -> str:
    """Return what the model's server calls it."""
    return serve.name(recipe) if recipe.serve else recipe.name


def upstream(recipe: Recipe) -> str:
    """Return where the gateway reaches the model's server, without /v1."""
    own = settings.current().gateway_upstream
    found = own or (serve.endpoint(recipe) if recipe.serve else "")
    return found.rstrip("/").removesuffix("/v1")


def upstream_key(recipe: Recipe) -> str:
    """Return the key that the model's server wants, or nothing."""
    own = settings.current().gateway_upstream_key
    return own or (serve.api_key(recipe) if recipe.serve else "")


def channel(recipe: Recipe) -> Channel:
    """Return the channel as it is wanted.

    Raises:
        UserError: nothing says where the model is served.
    """
    from .core.gateways import Channel
    from .core.webapi import address

    assert recipe.gateway is not None
    where = upstream(recipe)
    if not where:
        raise UserError(
            "MODELWRIGHT_GATEWAY_UPSTREAM is not set; say where the gateway reaches the model's "
            "server, such as `http://xinference:9997`, or give the recipe a `serve:`"
        )
    return Channel(
        name=name(recipe),
        upstream=address(where, settings.current().where("gateway_upstream")),
        model=model(recipe),
        served=served(recipe),
        group=recipe.gateway.group,
        priority=recipe.gateway.priority,
    )


def drifted(recipe: Recipe) -> str:
    """Return how the channel is no longer as it was left."""
    from .core import gateways
    from .core.gateways import upkeep

    try:
        there = gateways.connect(QUICK)
        found = upkeep.only(there, name(recipe))
        if not found:
            return f"channel '{name(recipe)}' is gone"
        changed = gateways.differences(found, there.fields(channel(recipe)))
    except UserError as error:
        return str(error)
    return f"channel '{name(recipe)}' has another {', '.join(changed)}" if changed else ""


def run(recipe: Recipe, folder: Path) -> Facts:
    from .core import gateways
    from .core.gateways import upkeep

    there = gateways.connect()
    if not there.is_up():
        _start(recipe)
        # With the passwords that were made for it.
        there = gateways.connect()
    there.wait(START)
    asked = channel(recipe)
    before = upkeep.settle(there, asked, _carried(there, recipe), upstream_key(recipe))
    try:
        upkeep.attempt(there, upkeep.kept(there, asked), asked)
    except UserError:
        upkeep.give_back(there, asked.name, before)
        raise
    content = {"kind": gateways.kind(), "fields": there.fields(asked), "before": before}
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (folder / CHANNEL).write_text(text, encoding="utf-8")
    return {"channel": asked.name, "model": asked.model, "gateway": gateways.kind()}


def undo(recipe: Recipe, receipt: Manifest | None) -> list[str]:
    """Remove the channel that we made, or put back what somebody else's was before."""
    from .core import gateways
    from .core.gateways import upkeep

    if place := _elsewhere(receipt):
        raise UserError(
            f"the channel is in {place}; set MODELWRIGHT_GATEWAY_ENDPOINT and _KIND to that, to "
            "take it away"
        )
    left = _left(recipe)
    title = left["fields"]["name"] if left else name(recipe)
    return upkeep.give_back(gateways.connect(), title, left.get("before"), ours=True)


def _start(recipe: Recipe) -> None:
    """Start the containers of FastGPT's folder, if there is one: the gateway is among them."""
    if settings.current().fastgpt_dir:
        from .core.fastgpt import home

        with home.at(paths.log(recipe.name, "gateway")) as fastgpt, fastgpt.held():
            fastgpt.start()


def _carried(there: Gateway, recipe: Recipe) -> dict[str, Any]:
    """Return what an earlier run left for the channel; one that had another name is given back."""
    from .core.gateways import upkeep

    if place := _elsewhere(manifest.read(paths.manifest(recipe.name, "gateway"))):
        console.say(f"   the channel in {place} stays; unship before the gateway is another")
    left = _left(recipe)
    if not left or left["fields"]["name"] == name(recipe):
        return left
    upkeep.give_back(there, left["fields"]["name"], left["before"], ours=True)
    return {}


def _left(recipe: Recipe) -> dict[str, Any]:
    """Return what an earlier run left at this gateway, or nothing."""
    if _elsewhere(manifest.read(paths.manifest(recipe.name, "gateway"))):
        return {}
    path = paths.output(recipe.name, "gateway") / CHANNEL
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return {}
    return content if isinstance(content, dict) else {}


def _elsewhere(receipt: Manifest | None) -> str:
    """Return the gateway that the channel was left at, where that is not this one."""
    was = receipt.inputs.get("recipe", {}) if receipt else {}
    found = settings.current()
    same = (was.get("kind"), was.get("endpoint")) == (found.gateway_kind, found.gateway_endpoint)
    return "" if same or not was else f"{was['kind']} at {was['endpoint']}"
