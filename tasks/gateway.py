"""Give the model a channel at the gateway and chat through it.

What goes in: the model as `serve` left it, answering.
What comes out: a channel at One API, new-api or AI Proxy, found by its name, changed where it
differs, tested with a chat request; and `channel.json`, which says what is there.  A channel of
the same name that serves any other model is nobody's to change.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import serve
from .core import identity, paths, settings
from .core.engine.journal import Journal
from .core.engine.manifest import Manifest
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.recipe import Recipe, present
from .core.web import address

if TYPE_CHECKING:
    from .core.gateways import Channel, Gateway

VERSION = 2
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


def check(recipe: Recipe) -> None:
    """Refuse addresses that are none, before a model is made for them."""
    address.check("gateway_endpoint", "gateway_upstream")


def name(recipe: Recipe) -> str:
    """Return what the channel is called."""
    return present(recipe.gateway).name or recipe.name


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

    asked, where = present(recipe.gateway), upstream(recipe)
    if not where:
        raise UserError(
            "MODELWRIGHT_GATEWAY_UPSTREAM is not set; say where the gateway reaches the model's "
            "server, such as `http://xinference:9997`, or give the recipe a `serve:`"
        )
    return Channel(
        name=name(recipe),
        upstream=address.address(where, settings.current().where("gateway_upstream")),
        model=model(recipe),
        served=served(recipe),
        group=asked.group,
        priority=asked.priority,
    )


def settle(recipe: Recipe) -> None:
    """Make the mark that the channel is to bear."""
    identity.settle(recipe)


def drifted(recipe: Recipe) -> str:
    """Return how the channel is no longer as it was left."""
    from .core.gateways import upkeep

    try:
        there = _gateway(recipe, QUICK)
        return upkeep.drift(there, channel(recipe), _journal(recipe).read())
    except UserError as error:
        return str(error)


def run(recipe: Recipe, folder: Path) -> Facts:
    from .core import gateways
    from .core.gateways import bringing

    there = _gateway(recipe)
    if not there.is_up():
        _start(recipe)
        # With the passwords that were made for it.
        there = _gateway(recipe)
    there.wait(START)
    asked = channel(recipe)
    left = bringing.bring(there, asked, _journal(recipe), upstream_key(recipe))
    # What was there before is in the note alone, for us alone to read.
    shown = {name: value for name, value in left.items() if name != "before"}
    text = json.dumps(shown, indent=1, ensure_ascii=False) + "\n"
    (folder / CHANNEL).write_text(text, encoding="utf-8")
    return {"channel": asked.name, "model": asked.model, "gateway": gateways.kind()}


def undo(recipe: Recipe, receipt: Manifest | None) -> list[str]:
    """Remove the channel that we made, or put back what somebody else's was before."""
    from .core.gateways import bringing

    made = paths.manifest(recipe.name, "gateway")
    return bringing.take_back(_gateway(recipe), name(recipe), _journal(recipe), made)


def _gateway(recipe: Recipe, timeout: float | None = None) -> Gateway:
    """Return the gateway of the settings, which knows this recipe's channels."""
    from .core import gateways
    from .core.web import api

    return gateways.connect(timeout or api.PATIENT, identity.named(recipe))


def _start(recipe: Recipe) -> None:
    """Start the containers of FastGPT's folder, if there is one: the gateway is among them."""
    if settings.current().fastgpt_dir:
        from .core.fastgpt import composefile, home

        log, images = paths.log(recipe.name, "gateway"), composefile.images(recipe)
        with home.at(log, images=images) as fastgpt, fastgpt.held():
            fastgpt.start()


def _journal(recipe: Recipe) -> Journal:
    """Return where it is noted what the gateway had before."""
    return Journal(recipe.name, "gateway")
