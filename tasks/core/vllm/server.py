"""A vLLM that we start: `vllm serve`, or a container of the image that holds the model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from .. import catalog, paths, settings
from ..errors import UserError
from ..image import versions
from ..recipe import Recipe, present
from ..serving import container, servers, serving
from ..serving.serving import Place
from ..serving.starting import Start
from ..toolchains import toolchain

PORT = 8000
# The first vLLM with --enable-auto-tool-choice.
TOOLS = (0, 6, 0)


def start(recipe: Recipe, at: Place, extras: Sequence[str]) -> Start:
    """Return how vLLM is started: a container of our image, or `vllm serve`.

    Raises:
        UserError: there is no image, or no vLLM.
    """
    listen = ["--host", at.bind, "--port", str(at.port)]
    key = settings.current().vllm_api_key
    environ = {"VLLM_API_KEY": key} if key else {}
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
    asked, parser = present(recipe.serve), tool_parser(recipe)
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
    images = recipe.image.tool_parser if recipe.image else None
    given = present(recipe.serve).tool_parser or images
    way = serving.way("vllm")
    if given or way == "endpoint":
        return given
    version = versions.of_image(recipe.image.base) if recipe.image else None
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


def _program() -> list[str]:
    """Return `vllm serve`, from the interpreter of the settings or from PATH."""
    given = toolchain.given_python("vllm")
    if given:
        return [given, "-m", "vllm.entrypoints.cli.main", "serve"]
    found = shutil.which("vllm")
    if not found:
        raise UserError(
            "vllm: no such program; set MODELWRIGHT_TOOLCHAIN_VLLM to a Python that has it, "
            "MODELWRIGHT_VLLM_ENDPOINT to a vLLM that is there, or MODELWRIGHT_SERVE_RUN=docker"
        )
    return [found, "serve"]
