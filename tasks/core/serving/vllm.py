"""What the stage `serve` does with vLLM: one server a model, by OpenAI's protocol."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import catalog, paths, settings
from ..engine import manifest
from ..engine.manifest import Manifest
from ..errors import UserError
from ..image import lints
from ..recipe import Recipe
from ..sections import Serve
from . import container, servers, serving
from .servers import Start
from .serving import Place

PORT = 8000
QUICK = 5.0
# The first vLLM with --enable-auto-tool-choice.
TOOLS = (0, 6, 0)


def place(recipe: Recipe) -> Place:
    """Return where vLLM serves the model."""
    return serving.place("vllm", PORT, recipe.name)


def depends(recipe: Recipe) -> dict[str, Any]:
    """Return what the stage waits for: the model, or the image that holds it."""
    stage = recipe.weights
    if serving.way("vllm") == "docker" and recipe.image:
        stage = "image" if recipe.image.builder == "docker" else "push"
    return {"file_dep": [paths.manifest(recipe.name, stage)], "task_dep": []}


def key(recipe: Recipe) -> dict[str, Any]:
    """Return what the catalogue and the settings add to the recipe's values."""
    return {"tool_parser": tool_parser(recipe), "devices": settings.current().serve_devices}


def api_key() -> str:
    """Return the key that chats have to show."""
    return settings.current().vllm_api_key


def serve(recipe: Recipe, at: Place, folder: Path, receipt: Manifest | None) -> dict[str, Any]:
    """Have the model running and answering; return the facts."""
    from . import questions

    with _api(at, serving.timeout()) as there:
        if at.way != "endpoint":
            servers.refuse_open(at, api_key(), "set MODELWRIGHT_VLLM_API_KEY")
            content = f"content {_content(recipe)}"
            servers.ensure(
                at, {content}, lambda extras: start(recipe, at, extras), there, "/health"
            )
        listed = models(there)
        uid = _serve(recipe).name or recipe.name
        if uid not in listed:
            command = shlex.join(["vllm", "serve", "MODEL", *arguments(recipe)])
            raise there.fault(f"serves {', '.join(listed)}, not '{uid}'; start it as `{command}`")
        tools = bool(tool_parser(recipe))
        answers = questions.ask(there, uid, recipe, tools=tools)
    questions.write(folder, answers)
    context = serving.context_length(recipe)
    return {"uid": uid, "engine": "vllm", "context_length": context, "tools": tools}


def drift(recipe: Recipe, at: Place, receipt: Manifest) -> str:
    """Return what is no longer as the last run left it, or nothing."""
    wrong = servers.drift(at, lambda extras: start(recipe, at, extras))
    if wrong:
        return wrong
    with _api(at, QUICK) as there:
        uid = receipt.facts["uid"]
        return "" if uid in models(there) else f"{uid} is not served"


def undo(recipe: Recipe, at: Place, receipt: Manifest | None) -> list[str]:
    """Take a server of ours away; nothing was made at an endpoint."""
    return servers.stop(at)


def start(recipe: Recipe, at: Place, extras: Sequence[str]) -> Start:
    """Return how vLLM is started: a container of our image, or `vllm serve`.

    Raises:
        UserError: there is no image, or no vLLM.
    """
    listen = ["--host", at.bind, "--port", str(at.port)]
    environ = {"VLLM_API_KEY": api_key()} if api_key() else {}
    if at.way == "docker":
        inside = listen if settings.current().serve_network == "host" else ["--port", str(PORT)]
        command = container.command(
            at.name,
            image(recipe),
            [*arguments(recipe), *inside],
            port=(at.bind, at.port, PORT),
            environ=dict.fromkeys(environ, ""),
            network=settings.current().serve_network,
            gpus=servers.gpus(),
            extras=extras,
        )
    else:
        model = str(paths.output(recipe.name, recipe.weights).absolute())
        command = [*_program(), model, *arguments(recipe), *listen]
        devices = settings.current().serve_devices
        environ |= {"CUDA_VISIBLE_DEVICES": devices} if devices else {}
    return Start(command, environ)


def arguments(recipe: Recipe) -> list[str]:
    """Return vLLM's options beyond those that an image of ours has in its entrypoint."""
    asked, parser = _serve(recipe), tool_parser(recipe)
    if asked.weights == "adapter":
        raise UserError(
            f"{recipe.file}: serve.weights: an adapter apart is for Xinference; take the key out, "
            "or say `by: xinference`"
        )
    words = ["--served-model-name", asked.name or recipe.name]
    context = serving.context_length(recipe)
    words += ["--max-model-len", str(context)] if context else []
    words += ["--tensor-parallel-size", str(asked.gpus)] if isinstance(asked.gpus, int) else []
    words += ["--trust-remote-code"] * recipe.base.trust_remote_code
    words += ["--enable-auto-tool-choice", "--tool-call-parser", parser] if parser else []
    return words


def tool_parser(recipe: Recipe) -> str | None:
    """Return the parser of tool calls: the recipe's, or the catalogue's where vLLM has parsers.

    What a vLLM that is there was started with is not known, so there the recipe has to say it.
    """
    given = _serve(recipe).tool_parser or (recipe.image.tool_parser if recipe.image else None)
    way = serving.way("vllm")
    if given or way == "endpoint":
        return given
    version = lints.vllm(recipe.image.base) if recipe.image else None
    too_old = way == "docker" and (version is None or version < TOOLS)
    return None if too_old else catalog.tool_parser(recipe)


def image(recipe: Recipe) -> str:
    """Return the image to start: by the digest that was pushed, or by the engine's own id.

    Raises:
        UserError: there is none.
    """
    if recipe.image is None:
        raise UserError(
            f"{recipe.file}: image: vLLM is served by a container of our image; describe one, or "
            "set MODELWRIGHT_SERVE_RUN=local"
        )
    stage, name = ("image", "digest") if recipe.image.builder == "docker" else ("push", "reference")
    return (paths.output(recipe.name, stage) / name).read_text(encoding="utf-8").strip()


def models(there: Any) -> list[str]:
    """Return the names of the models that a server offers."""
    from .webapi import refusal

    answer = there.ask("GET", "/v1/models")
    try:
        return [str(model["id"]) for model in answer.body["data"]]
    except (LookupError, TypeError):
        words = refusal(answer.body) or answer.body
        raise there.fault(f"GET /v1/models: {answer.status}, {there.told(words)}") from None


def _api(at: Place, timeout: float) -> Any:
    from .webapi import Api

    headers = {"Authorization": f"Bearer {api_key()}"} if api_key() else {}
    where = "MODELWRIGHT_VLLM_ENDPOINT"
    return Api("vLLM", at.endpoint, where, headers=headers, secrets=[api_key()], timeout=timeout)


def _program() -> list[str]:
    """Return `vllm serve`, from the interpreter of the settings or from PATH."""
    given = settings.current().toolchain_vllm
    if given:
        place = paths.expand(given)
        python = place / "bin" / "python" if place.is_dir() else place
        return [str(python), "-m", "vllm.entrypoints.cli.main", "serve"]
    found = shutil.which("vllm")
    if not found:
        raise UserError(
            "vllm: no such program; set MODELWRIGHT_TOOLCHAIN_VLLM to a Python that has it, "
            "MODELWRIGHT_VLLM_ENDPOINT to a vLLM that is there, or MODELWRIGHT_SERVE_RUN=docker"
        )
    return [found, "serve"]


def _content(recipe: Recipe) -> str:
    """Return what the weights hold: in the same folder there may be others tomorrow."""
    receipt = manifest.read(paths.manifest(recipe.name, recipe.weights))
    return paths.short(receipt.content) if receipt else ""


def _serve(recipe: Recipe) -> Serve:
    assert recipe.serve is not None
    return recipe.serve
