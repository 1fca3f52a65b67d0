"""A model as FastGPT's database keeps it, and as its lists show it."""

from __future__ import annotations

import json
from typing import Any

from ..web.api import Api

Record = dict[str, Any]
# What a list of models never shows: it has an empty text instead.
HIDDEN = ("customCQPrompt", "customExtractPrompt", "defaultSystemChatPrompt")
# Newer releases take these out of what they store.
DROPPED = (
    "datasetProcess", "usedInClassify", "usedInExtractFields", "usedInToolCall",
    "usedInQueryExtension", "charsPointsPrice",
)  # fmt: skip


def listed(api: Api, data: Any) -> list[Record]:
    """Return the models that FastGPT tells as one JSON text.

    Raises:
        UserError: it tells none.
    """
    try:
        found = json.loads(data) if isinstance(data, str) else data
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, list):
        raise api.fault("its list of models is none; its log tells more")
    return [one for one in found if isinstance(one, dict)]


def metadata(values: dict[str, Any]) -> dict[str, Any]:
    """Return an entry of config.json as the database keeps it."""
    return {**values, "type": "llm", "provider": "Other", "isActive": True, "isCustom": True}


def differences(found: dict[str, Any] | None, wanted: dict[str, Any]) -> list[str]:
    """Return the fields that a model in the database has otherwise than it should."""
    if found is None:
        return ["model: there is none"]
    kept = found.get("metadata") or {}
    ignored = {"isCustom", *(name for name in DROPPED if name not in kept)}
    return [
        name
        for name, value in wanted.items()
        if name not in ignored and _plain(kept.get(name)) != _plain(value)
    ]


def _plain(value: Any) -> Any:
    """Return a value so that what means the same is equal: nothing is an empty text."""
    return "" if value in (None, {}) else value
