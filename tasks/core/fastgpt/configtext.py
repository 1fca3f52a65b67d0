"""The text of FastGPT's config.json: one entry put in or taken out, all else kept.

Order, other entries, comments and layout stay.  `path` is the file, for messages.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import json5, json5edit

LIST = "llmModels"
# The lists of FastGPT up to 4.6.7; 4.6.6 changed their spelling.
OLD_LISTS = ("ChatModels", "chatModels")


def entry(text: str, model: str, path: Path) -> dict[str, Any] | None:
    """Return the entry for a model.

    Raises:
        UserError: the text is no FastGPT config.json of 4.6.8 or later.
    """
    same = _same(text, _models(text, _root(text, path), path), model, path)
    return dict(same.value) if same else None


def has_list(text: str, path: Path) -> bool:
    """Return whether there is a list of chat models."""
    return _models(text, _root(text, path), path) is not None


def others(text: str, model: str, path: Path) -> list[str]:
    """Return the other models that are named."""
    models = _models(text, _root(text, path), path)
    return [str(_model(part)) for part in models.parts if _model(part) != model] if models else []


def merge(text: str, wanted: dict[str, Any], path: Path) -> str:
    """Return FastGPT's file with an entry in it, in the place of the one for the same model if any.

    Raises:
        UserError: the text is no FastGPT config.json of 4.6.8 or later.
    """
    root = _root(text, path)
    models = _models(text, root, path)
    if models is None:
        return json5edit.append(text, root, [wanted], LIST)
    same = _same(text, models, wanted["model"], path)
    if same is None:
        return json5edit.append(text, models, wanted)
    # As text, for 0 and false are equal to Python.
    if json.dumps(same.value) == json.dumps(wanted):
        return text
    return json5edit.replace(text, same, wanted)


def without(text: str, model: str, path: Path, *, with_list: bool) -> str:
    """Return FastGPT's file without a model's entry.

    Args:
        with_list: take the list away, too, if it is empty then.
    """
    root = _root(text, path)
    models = _models(text, root, path)
    same = _same(text, models, model, path)
    if models is None or same is None:
        return text
    if with_list and len(models.parts) == 1:
        return json5edit.remove(text, root, models)
    return json5edit.remove(text, models, same)


def alone(wanted: dict[str, Any]) -> str:
    """Return a file that holds an entry and nothing else.

    By their source (read, not run) these releases fill in `feConfigs` and `systemEnv`, and take
    every missing list as empty.
    """
    return json.dumps({LIST: [wanted]}, indent=2, ensure_ascii=False) + "\n"


def _root(text: str, path: Path) -> json5.Node:
    try:
        root = json5.parse(text)
    except json5.Malformed as error:
        raise UserError(f"{path}:{error}; mend it, or move it away for a new file") from None
    if not isinstance(root.value, dict):
        raise UserError(f"{path}:1: should be an object, `{{...}}`; mend it, or move it away")
    return root


def _models(text: str, root: json5.Node, path: Path) -> json5.Node | None:
    models = root.member(LIST)
    if models is None:
        _refuse_old(root, text, path)
        return None
    if not isinstance(models.value, list):
        line = json5.line_of(text, models.start)
        raise UserError(f"{path}:{line}: {LIST}: should be a list, `[...]`; make it one")
    return models


def _same(text: str, models: json5.Node | None, model: str, path: Path) -> json5.Node | None:
    same = [part for part in models.parts if _model(part) == model] if models else []
    if len(same) > 1:
        lines = " and ".join(str(json5.line_of(text, part.start)) for part in same)
        raise UserError(f"{path}: {LIST}: '{model}' is there in lines {lines}; keep one")
    return same[0] if same else None


def _model(part: json5.Node) -> Any:
    return part.value.get("model") if isinstance(part.value, dict) else None


def _refuse_old(root: json5.Node, text: str, path: Path) -> None:
    for name in OLD_LISTS:
        if old := root.member(name):
            raise UserError(
                f"{path}:{json5.line_of(text, old.lead)}: {name}: a file of FastGPT up to 4.6.7; "
                f"update FastGPT to 4.6.8 or later and start from its file, which has `{LIST}`"
            )
