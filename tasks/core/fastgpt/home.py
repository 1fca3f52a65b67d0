"""Where a FastGPT keeps its models: config.json up to 4.8.19, its database from 4.8.20 on.

The release is asked for: at the running FastGPT, else in its compose file.  An entry goes in, is
held against what is there, and comes out again; nothing else is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import console, paths, settings
from ..engine.journal import Journal
from ..errors import UserError
from ..web.api import PATIENT
from . import composefile, configfile, passwords
from .client import FastGPT
from .indatabase import InDatabase
from .infile import InFile
from .nested import FIRST
from .site import DATABASE, FILE, Site

QUICK = 3.0

# What a later run must know: model, kept_in, the file and the endpoint where it is, what was there
# before, and in `ours` what we have put there.
State = dict[str, Any]
Note = Callable[[State], None]


class Home(Site):
    """A FastGPT that an entry is given to."""

    def give(self, made: dict[str, Any], journal: Journal) -> State:
        """Give FastGPT an entry; return what a later run must know.

        Args:
            journal: what an earlier run noted; ours is noted before anything is changed.

        Raises:
            UserError: it does not take it, or an earlier entry is in another FastGPT.
        """
        if not self.folder:
            self.wait()
        told = {"model": made["model"], "kept_in": self.keeps_in()}
        known = self._known(told, journal)
        # Until FastGPT has taken it, what is there may be what it was given the last time.
        both = {**told, "ours": [*known.get("ours", []), made]}

        def note(state: State) -> None:
            journal.write({**both, **state})

        if told["kept_in"] == FILE:
            self._file().give(made, known, note)
        elif not self._must_import():
            self.start()
            self._database().give(made, known, note)
        else:
            self._database().take_over(self._file(), made, known, note)
        journal.write({**journal.read(), "ours": [made]})
        return journal.read()

    def _known(self, told: State, journal: Journal) -> State:
        """Return what was noted for the same model and place; of another, it is taken back."""
        state = journal.read()
        self._refuse_elsewhere(state, journal)
        in_file = told["kept_in"] == FILE or self._must_import()
        same = all(state.get(name) == told[name] for name in told)
        if not state or (same and ("file" in state) == in_file):
            return state
        for line in self.take_back(journal):
            console.say(f"   {line}")
        return {}

    def lacking(self, made: dict[str, Any], state: State) -> str:
        """Return how FastGPT has not the entry that it was given, or nothing."""
        if state.get("kept_in") not in (FILE, DATABASE):
            return "never given to FastGPT"
        if there := self._elsewhere(state):
            return f"it is in FastGPT at {there}"
        if self.api and not self.api.is_up():
            return f"{self.api.name} does not answer"
        place = self.keeps_in()
        if place != state["kept_in"]:
            return f"this FastGPT keeps its models in its {place.removesuffix('.json')} now"
        store = self._file() if place == FILE else self._database()
        return store.lacking(made)

    def take_back(self, journal: Journal) -> list[str]:
        """Take an entry out, or put back the one before it; return a line on each thing.

        Raises:
            UserError: it is in another FastGPT, or this one does not give it back.
        """
        state, lines = journal.read(), []
        self._refuse_elsewhere(state, journal)
        if state.get("file"):
            lines += self._file().take_back(state, rereads=self.keeps_in() == FILE)
        if state["kept_in"] == DATABASE:
            lines += self._database().take_back(state)
        journal.write({})
        return lines

    def _refuse_elsewhere(self, state: State, journal: Journal) -> None:
        if there := self._elsewhere(state):
            raise UserError(
                f"'{state['model']}' is in FastGPT at {there}; set MODELWRIGHT_FASTGPT_ENDPOINT "
                "and _DIR to that and unship, or, if that FastGPT is no more, delete "
                f"{journal.path}"
            )

    def _elsewhere(self, state: State) -> str:
        """Return the file or the endpoint where an entry is, where that is not this FastGPT's."""
        file = str(self.folder / configfile.NAME) if self.folder else None
        endpoint = self.api.endpoint if self.api else None
        here = {"file": file, "endpoint": endpoint}
        return next((state[at] for at in here if state.get(at) not in (None, here[at])), "")

    def _file(self) -> InFile:
        if not self.folder:
            raise UserError(
                "this FastGPT reads its models from config.json; set MODELWRIGHT_FASTGPT_DIR to "
                "the folder that holds it"
            )
        return InFile(self, self.folder / configfile.NAME)

    def _database(self) -> InDatabase:
        if not self.api:
            raise UserError(
                "this FastGPT keeps its models in its database; set MODELWRIGHT_FASTGPT_ENDPOINT "
                "and MODELWRIGHT_FASTGPT_PASSWORD, the password of its user root"
            )
        return InDatabase(self.api)

    def _must_import(self) -> bool:
        """Return whether the root key is all that is known: it does for the import call alone."""
        known = self.api.settings if self.api else None
        is_all = known and known.fastgpt_root_key and not known.fastgpt_password
        return bool(self.folder and is_all) and self.release() < FIRST


@contextmanager
def at(
    log: Path, timeout: float = PATIENT, images: Mapping[str, str] = composefile.IMAGES
) -> Iterator[Home]:
    """Give the FastGPT of the settings.

    Args:
        images: those of a compose file that we make where there is none.

    Raises:
        UserError: the folder in the settings is none.
    """
    found = passwords.completed(settings.current())
    folder = None
    if found.fastgpt_dir:
        folder = paths.inside(Path(found.fastgpt_dir))
        if not folder.is_dir():
            where = found.where("fastgpt_dir")
            raise UserError(f"{where}: no folder {folder}; correct it, or take it out")
    api = FastGPT(found, timeout) if found.fastgpt_endpoint else None
    yield Home(folder, api, log, images)
