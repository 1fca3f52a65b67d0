"""What the stage `serve` does with vLLM, by OpenAI's protocol."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from .. import paths, settings
from ..engine import manifest
from ..engine.manifest import Manifest
from ..recipe import Recipe, present
from ..serving import servers, serving, starting
from ..serving.serving import Place
from . import server

KIND = "vllm"
QUICK = 5.0


def place(recipe: Recipe) -> Place:
    """Return where vLLM serves the model."""
    return serving.place(KIND, server.PORT, owner(recipe))


def owner(recipe: Recipe) -> str:
    """Return the model that a server is for: vLLM serves one only."""
    return recipe.name


def depends(recipe: Recipe) -> dict[str, Any]:
    """Return what the stage waits for: the model, or the image that holds it."""
    stage = recipe.weights
    if serving.way(KIND) == "docker" and recipe.image:
        stage = "image" if recipe.image.builder == "docker" else "push"
    return {"file_dep": [paths.manifest(recipe.name, stage)], "task_dep": []}


def key(recipe: Recipe) -> dict[str, Any]:
    """Return what the catalogue and the settings add to the recipe's values."""
    return {"tool_parser": server.tool_parser(recipe), "devices": settings.current().serve_devices}


def api_key() -> str:
    """Return the key that chats have to show."""
    return settings.current().vllm_api_key


def serve(recipe: Recipe, at: Place, folder: Path, receipt: Manifest | None) -> dict[str, Any]:
    """Have the model running and answering; return the facts."""
    from ..serving import questions

    with _api(at, serving.timeout()) as there:
        if at.way != "endpoint":
            starting.refuse_open(at, api_key(), "set MODELWRIGHT_VLLM_API_KEY")
            content = f"content {_content(recipe)}"
            starting.ensure(
                at, {content}, lambda extras: server.start(recipe, at, extras), there, "/health"
            )
        listed = models(there)
        uid = present(recipe.serve).name or recipe.name
        if uid not in listed:
            command = shlex.join(["vllm", "serve", "MODEL", *server.arguments(recipe)])
            raise there.fault(f"serves {', '.join(listed)}, not '{uid}'; start it as `{command}`")
        tools = bool(server.tool_parser(recipe))
        answers = questions.ask(there, uid, recipe, tools=tools)
    questions.write(folder, answers)
    context = serving.context_length(recipe)
    return {"uid": uid, "engine": "vllm", "context_length": context, "tools": tools}


def drift(recipe: Recipe, at: Place, receipt: Manifest) -> str:
    """Return what is no longer as the last run left it, or nothing."""
    wrong = starting.drift(at, lambda extras: server.start(recipe, at, extras))
    if wrong:
        return wrong
    with _api(at, QUICK) as there:
        uid = receipt.facts["uid"]
        return "" if uid in models(there) else f"{uid} is not served"


def undo(recipe: Recipe, at: Place, receipt: Manifest | None) -> list[str]:
    """Take a server of ours away; nothing was made at an endpoint."""
    return servers.stop(at)


def models(there: Any) -> list[str]:
    """Return the names of the models that a server offers."""
    answer = there.ask("GET", "/v1/models")
    try:
        return [str(model["id"]) for model in answer.body["data"]]
    except (LookupError, TypeError):
        raise there.fault(f"GET /v1/models: {answer.status}, {there.said(answer)}") from None


def _api(at: Place, timeout: float) -> Any:
    from ..web.api import Api

    headers = {"Authorization": f"Bearer {api_key()}"} if api_key() else {}
    where = "MODELWRIGHT_VLLM_ENDPOINT"
    return Api("vLLM", at.endpoint, where, headers=headers, secrets=[api_key()], timeout=timeout)


def _content(recipe: Recipe) -> str:
    """Return what the weights hold: in the same folder there may be others tomorrow."""
    receipt = manifest.of(recipe.name, recipe.weights)
    return paths.short(receipt.content) if receipt else ""
