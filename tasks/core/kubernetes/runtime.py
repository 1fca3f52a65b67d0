"""The vLLM that serves files which are mounted, not in an image of their own."""

from __future__ import annotations

from .. import catalog
from ..image import versions
from ..recipe import Recipe

IMAGE = "vllm/vllm-openai"
# The document's own, which cannot read tool calls.
DOCUMENT = "0.4.1"


def image(recipe: Recipe) -> str:
    """Return the image to serve with: given, the base of the recipe's own, or one that can."""
    own = recipe.onboard.runtime if recipe.onboard else None
    base = recipe.image.base if recipe.image else "scratch"
    if own or not (base == "scratch" or base.startswith(("oci:", "docker-"))):
        return own or base
    parser = _parser(recipe)
    wished = versions.parsing(parser) if parser else DOCUMENT
    return f"{IMAGE}:v{versions.serving(catalog.row(recipe).vllm, wished)}"


def oldest(recipe: Recipe) -> str:
    """Return a version from which on vLLM serves the architecture and knows its arguments."""
    parser, first = _parser(recipe), catalog.row(recipe).vllm.get("first") or DOCUMENT
    if not parser:
        return first
    # The image is judged apart: whatever it has serves, also where the parser came in between.
    own, needed = versions.of_image(image(recipe)), versions.parsing(parser)
    if own and (own < versions.parse(needed) or not versions.is_known(parser)):
        needed = ".".join(map(str, own))
    return max(first, needed, key=versions.parse)


def arguments(recipe: Recipe) -> tuple[str, ...]:
    """Return what it is told beside the model's folder and name, as the recipe's own image is."""
    parser = _parser(recipe)
    tools = ["--enable-auto-tool-choice", f"--tool-call-parser={parser}"] if parser else []
    return (*["--trust-remote-code"] * recipe.base.trust_remote_code, *tools)


def _parser(recipe: Recipe) -> str | None:
    return recipe.image.tool_parser if recipe.image else None
