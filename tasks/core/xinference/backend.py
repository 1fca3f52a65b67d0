"""What the stage `serve` does with Xinference."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import catalog, identity, paths, settings
from ..engine import manifest
from ..engine.manifest import Manifest
from ..errors import UserError
from ..recipe import Recipe, present
from ..serving import servers, serving, starting
from ..serving.serving import Place
from . import registration, server

if TYPE_CHECKING:
    from ..serving.chatmodel import ChatModel

KIND = server.KIND
# How long a question about what is there may take, where nothing is to be done.
QUICK = 5.0


def place(recipe: Recipe) -> Place:
    """Return where Xinference is; one serves many models."""
    return serving.place(KIND, server.PORT)


def owner(recipe: Recipe) -> str:
    """Return the model that a server is for: none, as one serves many."""
    return ""


def api_key() -> str:
    """Return the key that chats have to show."""
    return settings.current().xinference_api_key


def depends(recipe: Recipe) -> dict[str, Any]:
    """Return what the stage waits for: the model, and the toolchain where it runs here."""
    return {
        "file_dep": [paths.manifest(recipe.name, stage) for stage in stages(recipe)],
        "task_dep": ["toolchain:xinference"] if serving.way(server.KIND) == "local" else [],
    }


def stages(recipe: Recipe) -> list[str]:
    """Return the stages whose folders are served: the model's, or the base's and the adapter's."""
    apart = present(recipe.serve).weights == "adapter" and recipe.tuned
    return ["base", "adapter"] if apart else [recipe.weights]


def key(recipe: Recipe) -> dict[str, Any]:
    """Return what the settings and the catalogue add to the recipe's values."""
    found = settings.current()
    in_container = serving.way(server.KIND) == "docker"
    image = {"image": found.xinference_image} if in_container else {}
    return {"tool_parser": parser(recipe), "devices": found.serve_devices, **image}


def serve(recipe: Recipe, at: Place, folder: Path, receipt: Manifest | None) -> dict[str, Any]:
    """Have the model registered, running and answering; return the facts.

    Args:
        folder: where the registration and the answers are written.
        receipt: the last run's.
    """
    from ..serving import chatmodel, questions
    from . import models, registering
    from .client import Client

    weights, *adapters = (paths.output(recipe.name, stage) for stage in stages(recipe))
    asked = present(recipe.serve)
    own = recipe.beside(asked.chat_template) if asked.chat_template else None
    wanted = _registration(recipe, at, chatmodel.read(weights, own), weights)
    launch = models.launch_values(recipe, at, wanted["model_specs"][0])
    launched = launch | models.with_adapters(recipe, [server.uri(at, each) for each in adapters])
    with Client(at.endpoint, serving.timeout()) as there:
        trust = recipe.base.trust_remote_code
        server.ensure(at, server.needs(at, weights, trust=trust), there)
        there.authorize()
        models.bring(there, recipe, wanted, launched, dict(receipt.facts) if receipt else {})
        tools = "tools" in wanted["model_ability"]
        answers = questions.ask(there, launch["model_uid"], recipe, tools=tools)
    registering.write(folder, wanted, weights)
    questions.write(folder, answers)
    return {
        "uid": launch["model_uid"],
        "model_name": wanted["model_name"],
        "registration": wanted["model_description"],
        "engine": launch["model_engine"],
        "context_length": wanted["context_length"],
        "tools": tools,
        "launch": launch,
    }


def drift(recipe: Recipe, at: Place, receipt: Manifest) -> str:
    """Return what is no longer as the last run left it, or nothing."""
    from . import models
    from .client import Client

    wrong = starting.drift(at, lambda extras: server.start(at, extras))
    if wrong:
        return wrong
    with Client(at.endpoint, QUICK) as there:
        there.authorize()
        return models.drift(there, receipt.facts)


def undo(recipe: Recipe, at: Place, receipt: Manifest | None) -> list[str]:
    """Take the model and its registration away, and a server of ours that is left with nothing."""
    from . import models
    from .client import Client

    if at.way != "endpoint" and not servers.is_alive(at):
        return [*models.forget(at, recipe, receipt), *servers.stop(at)]
    with Client(at.endpoint) as there:
        there.authorize()
        lines = models.remove(there, recipe, receipt)
        if at.way == "endpoint":
            return lines
        if there.is_used():
            return [*lines, f"Xinference at {at.endpoint} stays: it has other models"]
    return [*lines, *servers.stop(at)]


def parser(recipe: Recipe) -> str | None:
    """Return the parser of tool calls, by Xinference's name."""
    return registration.tool_parser(recipe, catalog.tool_parser(recipe))


def _registration(recipe: Recipe, at: Place, model: ChatModel, weights: Path) -> dict[str, Any]:
    """Return the registration that the server is to have, with its mark."""
    receipts = [manifest.of(recipe.name, stage) for stage in stages(recipe)]
    content = manifest.digest_of([receipt.content for receipt in receipts if receipt])
    context = serving.context_length(recipe)
    if context is None:
        raise UserError(
            f"{recipe.file}: serve.context_length: the model does not tell; give how many tokens "
            "it was made for"
        )
    made = registration.version2(recipe, model, server.uri(at, weights), context, parser(recipe))
    return registration.marked(made, content, identity.known(recipe))
