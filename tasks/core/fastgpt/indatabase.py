"""A model in FastGPT's database, from 4.8.20 on: written alone, tested, taken out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import console
from ..errors import UserError
from . import configfile, records
from .client import FastGPT

if TYPE_CHECKING:
    from .home import Note, State
    from .infile import InFile


class InDatabase:
    """The database, through the API of the user root."""

    def __init__(self, api: FastGPT) -> None:
        self.api = api

    def give(self, made: dict[str, Any], known: State, note: Note) -> None:
        """Write a model and have FastGPT chat with it.

        Args:
            known: what an earlier run for the same model noted, or nothing.
            note: keeps what a later run must know, before anything is changed.
        """
        name, wanted = made["model"], records.metadata(made)
        found = self.api.model(name)
        wrong = records.differences(found, wanted)
        # What is equal to ours and was never noted was put there by us from another folder.
        before = found.get("metadata") if found and wrong else None
        note({"endpoint": self.api.endpoint, "before": known.get("before", before)})
        if wrong:
            self.api.put(name, wanted)
            console.say(f"   '{name}' is in FastGPT's database")
        self.api.test(self.api.model(name) or {"model": name})

    def lacking(self, made: dict[str, Any]) -> str:
        """Return how the database has not the model; nothing where it cannot be read."""
        if not self.api.settings.fastgpt_password:
            return ""
        wrong = records.differences(self.api.model(made["model"]), records.metadata(made))
        return f"'{made['model']}' has another {', '.join(wrong)}" if wrong else ""

    def take_back(self, state: State) -> list[str]:
        """Take the model out, or put back what there was of it, unless it was changed since."""
        model = state["model"]
        found = self.api.model(model)
        if not found:
            return []
        if all(records.differences(found, made) for made in state["ours"]):
            return [f"'{model}' stays in FastGPT's database: it is not as we left it"]
        if state["before"] and not state.get("file"):
            self.api.put(model, state["before"])
            return [f"'{model}' put back as it was in FastGPT's database"]
        self.api.remove(found)
        return [f"'{model}' taken out of FastGPT's database"]

    def take_over(self, file: InFile, made: dict[str, Any], known: State, note: Note) -> None:
        """Have the database import config.json, where the root key is all that is given.

        Raises:
            UserError: the file names other models: what people have set of them would be undone.
        """
        others = configfile.others(file.path, made["model"]) if file.path.exists() else []
        if others:
            raise UserError(
                f"{file.path}: names {', '.join(others)}, too, and the import call would undo "
                "what was changed of them in FastGPT; set MODELWRIGHT_FASTGPT_PASSWORD instead"
            )
        file.give(made, known, lambda state: note({**state, "endpoint": self.api.endpoint}))
        self.api.take_over()
