"""Models in FastGPT's database from 4.8.20 to 4.16: known by name, and by an id in later ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .records import Record, listed

if TYPE_CHECKING:
    from .client import FastGPT

PLACE = "/api/core/ai/model"


class Flat:
    """The calls of these releases.

    `updateWithJson` is none of them: it would delete all other models first.
    """

    def __init__(self, there: FastGPT) -> None:
        self.there = there

    def all(self) -> list[Record]:
        """Return the models: model, metadata, and in newer releases id."""
        return listed(self.there.api, self.there.ask("GET", f"{PLACE}/getConfigJson"))

    def put(self, name: str, metadata: Record, there: list[Record]) -> None:
        """Add a model or change it.

        Args:
            there: all models.
        """
        found = next((one for one in there if one.get("model") == name), None)
        body: Record = {"metadata": metadata}
        if found and "id" in found:
            self.there.ask("PUT", f"{PLACE}/update", {**_named(found), **body})
        elif any("id" in one for one in there):
            self._create(name, body)
        elif self._is_updated(name, body, must=bool(there)):
            return
        else:
            self._create(name, body)

    def remove(self, found: Record) -> None:
        """Take a model out."""
        self.there.ask("DELETE", f"{PLACE}/delete", **_named(found))

    def test(self, found: Record) -> None:
        """Have FastGPT chat with a model."""
        self.there.ask("GET", f"{PLACE}/test", **_named(found))

    def _create(self, name: str, body: Record) -> None:
        self.there.ask("POST", f"{PLACE}/create", {"model": name, "isShared": True, **body})

    def _is_updated(self, name: str, body: Record, *, must: bool) -> bool:
        """Change a model by its name; an empty database does not tell whether that is the way."""
        answer = self.there.api.ask("PUT", f"{PLACE}/update", {"model": name, **body})
        if must or self.there.is_good(answer):
            self.there.data(answer, f"PUT {PLACE}/update")
            return True
        return False


def _named(found: Record) -> dict[str, str]:
    """Return how a release names a model: by its name, or by an id under one of two words."""
    if "id" in found:
        return {"id": str(found["id"]), "modelId": str(found["id"])}
    return {"model": str(found["model"])}
