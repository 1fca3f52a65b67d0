"""A model's entry in FastGPT's config.json: put in, read again by FastGPT, taken out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import console
from ..errors import UserError
from . import configfile, records, stack

if TYPE_CHECKING:
    from .home import Note, State
    from .site import Site


class InFile:
    """The file of a FastGPT up to 4.8.19, or the one that a later FastGPT imports."""

    def __init__(self, site: Site, path: Path) -> None:
        self.site, self.path = site, path

    def give(self, made: dict[str, Any], known: State, note: Note) -> None:
        """Put an entry in and have FastGPT read it.

        Args:
            known: what an earlier run for the same model noted, or nothing.
            note: keeps what a later run must know, before anything is changed.
        """
        was = configfile.find(self.path.parent)
        found = configfile.entry_in(self.path, made["model"]) if was else None
        state = {
            "file": str(self.path),
            # What is equal to ours and was never noted was put there by us from another folder.
            "before": found if found != made else None,
            "made_list": not (was and configfile.has_list(self.path)),
        }
        note(state | {name: known[name] for name in state if known.get("file")})
        self._reread(made, self._put(made, is_new=was is None))

    def lacking(self, made: dict[str, Any]) -> str:
        """Return how the file, or the FastGPT that runs, has not the entry."""
        model, there = made["model"], configfile.find(self.path.parent)
        found = configfile.entry_in(self.path, model) if there else None
        # As text, for 0 and false are equal to Python.
        if json.dumps(found) != json.dumps(made):
            return f"{self.path} has {'another' if found else 'no'} entry '{model}'"
        listed = self._listed()
        return (
            f"FastGPT runs without '{model}'"
            if listed is not None and not shows(listed, made)
            else ""
        )

    def take_back(self, state: State, *, rereads: bool) -> list[str]:
        """Take the entry out, or put back the one before it, unless it was changed since.

        Args:
            rereads: FastGPT has its models from the file, and must read it again.
        """
        model, before = state["model"], state["before"]
        there = configfile.find(self.path.parent)
        found = configfile.entry_in(self.path, model) if there else None
        if found is None:
            return []
        if found not in state["ours"]:
            return [f"entry '{model}' stays in {self.path.name}: it is not as we left it"]
        kept = configfile.take_out(self.path, model, before, made_list=state["made_list"])
        if rereads and stack.restart(self.path, self.site.log):
            self.site.wait()
        how = "put back as it was in" if before else "taken out of"
        return [f"entry '{model}' {how} {self.path.name} (the file before: {kept.name})"]

    def _put(self, made: dict[str, Any], *, is_new: bool) -> bool:
        """Put the entry into the file; return whether that changed it."""
        if is_new:
            configfile.make(self.path, made)
            console.say(f"   {self.path} made")
            return True
        kept = configfile.put(self.path, made)
        if kept:
            console.say(f"   {self.path} has the entry; the file before: {kept.name}")
        return kept is not None

    def _reread(self, made: dict[str, Any], changed: bool) -> None:
        """Have FastGPT read its file again, unless it runs with what the file has."""
        self.site.start()
        listed = self._listed()
        if shows(listed, made) or (not changed and listed is None):
            return
        if stack.restart(self.path, self.site.log):
            self.site.wait()
        elif self.site.api:
            raise UserError(
                f"{self.path}: has the entry, but no container here has this file mounted; "
                "restart FastGPT by hand and run this again"
            )
        else:
            console.say("   restart FastGPT for it to read the file")
        listed = self._listed()
        if self.site.api and listed is not None and not shows(listed, made):
            raise UserError(
                f"{self.site.api.name}: restarted, and still without '{made['model']}'; is "
                f"{self.path} the file that it reads?"
            )

    def _listed(self) -> list[dict[str, Any]] | None:
        """Return the models that a running FastGPT tells to have, if it tells."""
        return self.site.api.listed() if self.site.api else None


def shows(listed: list[dict[str, Any]] | None, made: dict[str, Any]) -> bool:
    """Return whether a FastGPT's list has an entry, as far as it shows it."""
    seen = [name for name in made if name not in records.HIDDEN]
    same = [one for one in listed or [] if one.get("model") == made["model"]]
    return any(all(made[name] == one[name] for name in seen if name in one) for one in same)
