"""A model's registration: Xinference's custom model JSON, versions 1 and 2."""

from __future__ import annotations

import re
from typing import Any

from .. import identity, paths
from ..engine import manifest
from ..errors import UserError, nearest
from ..recipe import Recipe, present
from ..serving.chatmodel import ChatModel

# Xinference 4.1.0 takes tool calls apart for models of a family that it has built in, and parsers
# are for families: each parser with the family that we register under it.
FAMILIES = {
    "qwen": "qwen2.5-instruct",
    "llama3": "llama-3.1-instruct",
    "glm4": "glm4-chat",
    "glm5": "glm-4.5",
    "minimax": "MiniMax-M2",
    "minicpm5": "minicpm5-1b",
    "deepseek-r1": "deepseek-r1-0528",
    "deepseek-v3.1": "Deepseek-V3.1",
    "deepseek-v3.2": "DeepSeek-V3.2",
}
# By vLLM's name of a parser, for what the catalogue knows.
PARSERS = {
    "hermes": "qwen",
    "llama3_json": "llama3",
    "glm45": "glm5",
    "minimax_m2": "minimax",
}
# The marks of first releases named no owner.
MARK = re.compile(r"modelwright:(?P<model>\S+)@(?P<digest>[0-9a-f]{12})(?:/(?P<owner>\S+))?$")


def model_name(recipe: Recipe) -> str:
    """Return the name that the model is registered under."""
    return present(recipe.serve).model_name or recipe.name


def tool_parser(recipe: Recipe, known: str | None) -> str | None:
    """Return Xinference's parser of tool calls.

    Args:
        known: vLLM's parser for the model, if the catalogue has one.

    Raises:
        UserError: Xinference has no such parser; an unknown one it would take in silence.
    """
    given = present(recipe.serve).tool_parser
    if given and given not in FAMILIES:
        guess = nearest(given, FAMILIES) or f"; known: {', '.join(FAMILIES)}"
        at = f"{recipe.file}: serve.tool_parser"
        raise UserError(f"{at}: Xinference has no parser '{given}'{guess}")
    return given or PARSERS.get(known or "")


def size(recipe: Recipe, parameters: int) -> int | str:
    """Return the billions of parameters as Xinference writes them: 8, or `0_5` for a half.

    Raises:
        UserError: neither the recipe nor the weights tell.
    """
    given = present(recipe.serve).size
    if not given and not parameters:
        raise UserError(
            f"{recipe.file}: serve.size: the weights do not tell how large the model is; give the "
            'billions of parameters, such as `size: "7"`'
        )
    billions = parameters / 1e9
    digits = 1 if billions < 9.95 else 0
    text = given or f"{max(billions, 0.1):.{digits}f}".removesuffix(".0").replace(".", "_")
    return text if "_" in text else int(text)


def version2(
    recipe: Recipe, model: ChatModel, uri: str, context_length: int, parser: str | None
) -> dict[str, Any]:
    """Return the registration in the form of today's Xinference.

    The chat template is always written out: in the place of a missing one, Xinference puts the
    family's name.  The engines look at the architectures.

    Args:
        uri: the model's folder as the server sees it.
    """
    asked = present(recipe.serve)
    family = asked.family or FAMILIES.get(parser or "") or model_name(recipe)
    return {
        "version": 2,
        "model_name": model_name(recipe),
        "model_description": f"modelwright:{recipe.name}",
        "context_length": context_length,
        "model_lang": list(asked.languages),
        "model_ability": ["generate", "chat", *(["tools"] if parser else [])],
        "model_family": family,
        "model_specs": [
            {
                "model_format": asked.format,
                "model_size_in_billions": size(recipe, model.parameters),
                "quantization": asked.quantization,
                "model_id": None,
                "model_hub": "huggingface",
                "model_uri": uri,
                "model_revision": None,
            }
        ],
        "chat_template": model.chat_template,
        "stop_token_ids": list(model.stop),
        "stop": [text for text in model.stop.values() if text],
        "architectures": list(model.architectures),
        **({"tool_parser": parser} if parser else {}),
    }


def version1(registration: dict[str, Any]) -> dict[str, Any]:
    """Return a registration in the form that Xinference took up to 1.8: a list of quantizations."""
    specs = [
        {
            **{key: value for key, value in spec.items() if key != "quantization"},
            "quantizations": [spec["quantization"]],
        }
        for spec in registration["model_specs"]
    ]
    return {**registration, "version": 1, "model_specs": specs}


def marked(registration: dict[str, Any], content: str, owner: str) -> dict[str, Any]:
    """Return a registration whose description tells whose it is and what it stands for.

    Args:
        content: the digest of the weights; the same folder may hold others tomorrow.
        owner: the recipe's mark (identity.py).
    """
    specs = [{**spec, "model_uri": None} for spec in registration["model_specs"]]
    # The same everywhere: where the folder lies is compared by itself.
    digest = paths.short(manifest.digest_of([registration | {"model_specs": specs}, content]))
    mark = f"{registration['model_description']}@{digest}/{owner}"
    return {**registration, "model_description": mark}


def is_ours(description: Any, recipe: Recipe, left: str) -> bool:
    """Return whether a description names this recipe as its owner.

    Args:
        left: the mark that the last run left; one without an owner is ours by that alone.
    """
    found = MARK.search(str(description or ""))
    if not found or found["model"] != recipe.name:
        return False
    owner = found["owner"]
    return owner == identity.known(recipe) if owner else description == left


def has_another_owner(description: Any, recipe: Recipe) -> bool:
    """Return whether a description names an owner that is not this recipe."""
    found = MARK.search(str(description or ""))
    return bool(found and found["owner"]) and not is_ours(description, recipe, "")


def cure(description: Any, recipe: Recipe) -> str:
    """Return what to do about a thing of the name that is not ours, beside another name for it.

    Another model's is not this recipe's in any checkout.
    """
    found = MARK.search(str(description or ""))
    may_be_ours = found and found["owner"] and found["model"] == recipe.name
    return f", or, {identity.adopt(found['owner'])}" if found and may_be_ours else ""
