"""A FastGPT as it runs: its folder on this machine, its API, or both."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from .. import console
from ..errors import UserError
from . import client, composefile, configfile, passwords, stack
from .client import FastGPT

# MongoDB, its replica set, and FastGPT after them.
START = 180.0
FILE, DATABASE = configfile.NAME, "database"


class Site:
    """A FastGPT: its folder on this machine, its API, or both.

    Attributes:
        log: where the output of Docker goes.
        images: those of a compose file that we make, by service.
    """

    def __init__(
        self,
        folder: Path | None,
        api: FastGPT | None,
        log: Path,
        images: Mapping[str, str] = composefile.IMAGES,
    ) -> None:
        self.folder, self.api, self.log, self.images = folder, api, log, images

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold FastGPT's folder: two models at once must not write one file over the other's."""
        if not self.folder:
            yield
            return
        place = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(place, fcntl.LOCK_EX)
            yield
        finally:
            os.close(place)

    def keeps_in(self) -> str:
        """Return where this release keeps its models.

        Raises:
            UserError: nothing tells which release it is.
        """
        found = self.release()
        return DATABASE if found >= client.DATABASE else FILE

    def release(self) -> client.Version:
        """Return the release: of what runs, else of the compose file, else of ours."""
        is_up = self.is_up()
        found = self.api.version() if self.api and is_up else None
        there = stack.find(self.folder) if self.folder else None
        if not found and there:
            found = stack.service(there)[1]
        if not found and self.folder and not there and not is_up:
            found = client.parse(composefile.RELEASE)
        if not found:
            raise UserError(
                f"{self.api.name if self.api else there}: does not tell which release of FastGPT "
                "it is; set MODELWRIGHT_FASTGPT_PASSWORD, as newer ones tell it to root alone"
            )
        return found

    def start(self) -> None:
        """Start FastGPT if it does not run; the files that it needs are made where there are none.

        A config.json that were missing would be made by Docker, as a folder.
        """
        if self.folder and not self.is_up():
            there = stack.find(self.folder)
            if there is None:
                there = stack.make(self.folder, self.images)
                console.say(f"   {there} made, with passwords in {there.parent / passwords.NAME}")
            if not configfile.find(self.folder):
                (self.folder / configfile.NAME).write_text("{}\n", encoding="utf-8")
            stack.up(there, self.log)
        self.wait()

    def wait(self) -> None:
        """Wait until FastGPT answers, where the settings say where it does."""
        if self.api:
            self.api.wait(START)

    def chat(self, question: str) -> str:
        """Return the answer of one of FastGPT's applications."""
        if not self.api:
            raise UserError("MODELWRIGHT_FASTGPT_ENDPOINT is not set; say where FastGPT is")
        return self.api.chat(question)

    def is_up(self) -> bool:
        """Return whether it answers, where the settings say where it does."""
        return self.api is not None and self.api.is_up()
