"""What a server must know of a model, read from the model's own files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from ..errors import UserError

DEFAULT = "default"


@dataclass(frozen=True)
class ChatModel:
    """A model as its files tell it.

    Attributes:
        chat_template: the Jinja template that makes a prompt of messages.
        stop: the tokens that end an answer, by id.
        architectures: as config.json names them.
        parameters: how many numbers its weights are; 0 where no safetensors file tells.
    """

    chat_template: str
    stop: dict[int, str]
    architectures: tuple[str, ...]
    parameters: int


def read(folder: Path, own_template: Path | None = None) -> ChatModel:
    """Return what the files of a model tell.

    Args:
        own_template: a file with a chat template that stands in for the model's.

    Raises:
        UserError: a file is broken, or there is no chat template.
    """
    config = _json(folder / "config.json")
    return ChatModel(
        _read(own_template) if own_template else chat_template(folder),
        dict(stop_tokens(folder)),
        tuple(map(str, config.get("architectures") or ())),
        parameters(folder),
    )


def chat_template(folder: Path) -> str:
    """Return the tokenizer's chat template, from whichever file holds it.

    Raises:
        UserError: there is none.
    """
    own = folder / "chat_template.jinja"
    if own.is_file():
        return _read(own)
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = _json(folder / name).get("chat_template")
        if isinstance(found, list):
            named = {each["name"]: each["template"] for each in found}
            found = named.get(DEFAULT) or next(iter(named.values()), None)
        if found:
            return str(found)
    raise UserError(
        f"{folder}: the tokenizer has no chat template, so no server could make a prompt of a "
        "chat; put one beside the recipe and name it as `serve.chat_template`"
    )


def stop_tokens(folder: Path) -> Iterator[tuple[int, str]]:
    """Yield the tokens that end an answer: the tokenizer's own, and those of generation_config."""
    settings = _json(folder / "tokenizer_config.json")
    texts = _texts(folder, settings)
    ids = _json(folder / "generation_config.json").get("eos_token_id")
    if ids is None:
        ids = _json(folder / "config.json").get("eos_token_id")
    eos = _text(settings.get("eos_token"))
    own = [number for number, text in texts.items() if text == eos]
    for number in dict.fromkeys([*own, *(ids if isinstance(ids, list) else [ids])]):
        if isinstance(number, int):
            yield number, texts.get(number, "")


def parameters(folder: Path) -> int:
    """Return how many numbers the weights are, by the headers of the safetensors files."""
    from ..model import safetensors

    return sum(
        prod(tensor.shape)
        for path in sorted(folder.glob("*.safetensors"))
        for tensor in safetensors.read(path).tensors.values()
    )


def _texts(folder: Path, settings: dict[str, Any]) -> dict[int, str]:
    """Return the special tokens by id."""
    added = _json(folder / "tokenizer.json").get("added_tokens") or []
    listed = settings.get("added_tokens_decoder") or {}
    return {
        **{int(number): _text(token) for number, token in listed.items()},
        **{token["id"]: token["content"] for token in added},
    }


def _text(token: Any) -> str:
    """Return a token's text; tokenizers write it plain or as an object."""
    return str(token.get("content", "")) if isinstance(token, dict) else str(token or "")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; correct `serve.chat_template`") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start}: not UTF-8; save it as UTF-8") from None


def _json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where there is no file."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error}); fetch the file again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: should be an object, `{{...}}`; fetch the file again")
    return found
