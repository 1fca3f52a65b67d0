"""A model as FastGPT's database keeps it, and as its lists show it."""

from __future__ import annotations

from typing import Any

# What a list of models never shows: it has an empty text instead.
HIDDEN = ("customCQPrompt", "customExtractPrompt", "defaultSystemChatPrompt")
# Newer releases take these out of what they store.
DROPPED = (
    "datasetProcess", "usedInClassify", "usedInExtractFields", "usedInToolCall",
    "usedInQueryExtension", "charsPointsPrice",
)  # fmt: skip


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


def named(found: dict[str, Any]) -> dict[str, str]:
    """Return how a release names a model: by its name, or by an id under one of two words."""
    if "id" in found:
        return {"id": str(found["id"]), "modelId": str(found["id"])}
    return {"model": str(found["model"])}


def _plain(value: Any) -> Any:
    """Return a value so that what means the same is equal: nothing is an empty text."""
    return "" if value in (None, {}) else value
