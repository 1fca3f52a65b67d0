"""Models in FastGPT's database from 4.17 on: known by an id, what a request needs in `config`.

In 4.17.0 to 4.17.2 the calls are among those for administrators; sources after that have them
beside the others, where each says that the model is the system's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .records import Record, listed

if TYPE_CHECKING:
    from .client import FastGPT

# 4.17.0 was called so before it came out.
FIRST = (4, 16, 3)
PLACES: tuple[tuple[str, dict[str, str]], ...] = (
    ("/api/admin/settings/model", {}),
    ("/api/core/ai/model", {"channelType": "system"}),
)
CONFIG = (
    "maxContext", "maxResponse", "quoteMaxToken", "maxTemperature", "showTopP",
    "responseFormatList", "showStopSign", "censor", "vision", "audio", "video", "reasoning",
    "reasoningEffort", "functionCall", "toolChoice", "defaultSystemChatPrompt", "defaultConfig",
    "fieldMap",
)  # fmt: skip
BESIDE = (
    "type", "provider", "name", "isActive", "requestUrl", "requestAuth", "testMode",
    "charsPointsPrice", "priceTiers", "inputPrice", "outputPrice",
)  # fmt: skip


class Nested:
    """The calls of these releases."""

    def __init__(self, there: FastGPT) -> None:
        self.there = there
        self.place, self.kind = self._find()

    def all(self) -> list[Record]:
        """Return the models: model, modelId, and what else is known of each as metadata."""
        found = self.there.ask("GET", f"{self.place}/getConfigJson")
        return [flat(one) for one in listed(self.there.api, found)]

    def put(self, name: str, metadata: Record, there: list[Record]) -> None:
        """Add a model or change it.

        Args:
            there: all models.
        """
        data, call = document(metadata), f"{self.place}/update"
        named = {**data, "model": name}
        found = next((one for one in there if one.get("model") == name), None)
        if not found:
            self.there.ask("POST", f"{self.place}/create", {"modelData": named, **self.kind})
            return
        body = {"modelId": found["modelId"], **self.kind}
        # Of one release to the next, the name is forbidden here or wanted.
        answer = self.there.api.ask("PUT", call, {**body, "modelData": data})
        if not self.there.is_good(answer):
            self.there.ask("PUT", call, {**body, "modelData": named})

    def remove(self, found: Record) -> None:
        """Take a model out; its id is read in the body, or after it in the first releases."""
        body = {"modelIds": [found["modelId"]], **self.kind}
        self.there.ask("DELETE", f"{self.place}/delete", body, modelId=found["modelId"])

    def test(self, found: Record) -> None:
        """Have FastGPT chat with a model."""
        self.there.ask("GET", f"{self.place}/test", modelId=found["modelId"], **self.kind)

    def _find(self) -> tuple[str, dict[str, str]]:
        """Return where the calls are, and what each has to say."""
        first, second = PLACES
        is_there = self.there.api.ask("GET", f"{first[0]}/getConfigJson").status != 404
        return first if is_there else second


def document(metadata: Record) -> Record:
    """Return metadata as these releases keep it, without the model's name."""
    given = {name: value for name, value in metadata.items() if value is not None}
    return {
        **{name: given[name] for name in BESIDE if name in given},
        "config": {name: given[name] for name in CONFIG if name in given},
    }


def flat(found: Record) -> Record:
    """Return a document in the form of earlier releases."""
    apart = ("config", "modelId", "scope")
    beside = {name: value for name, value in found.items() if name not in apart}
    config: dict[str, Any] = found.get("config") or {}
    named = {"model": found.get("model"), "modelId": found.get("modelId")}
    return {**named, "metadata": {**beside, **config}}
