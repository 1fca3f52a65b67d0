"""Look at a model or dataset without taking it in: which files there are, and how some begin."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ..errors import UserError
from ..sections import Source
from ..sources import hub, modelscope
from ..sources.source import NOT_OURS

# A settings file of a model is never larger; a tokenizer_config.json may have a megabyte of tokens.
LARGEST = 8 << 20


class Place(Protocol):
    """Where files lie: a folder, or a repository."""

    # Each file's size, by its path.
    @property
    def files(self) -> Mapping[str, int]: ...

    # A file's first bytes.
    def head(self, path: str, most: int) -> bytes: ...


class Folder:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = (path for path in sorted(folder.rglob("*")) if path.is_file())
        self.files = {
            path.relative_to(folder).as_posix(): path.stat().st_size
            for path in found
            if not NOT_OURS & set(path.relative_to(folder).parts)
        }

    def head(self, path: str, most: int) -> bytes:
        try:
            with (self.folder / path).open("rb") as file:
                return file.read(most)
        except OSError as error:
            where = self.folder / path
            raise UserError(f"{where}: {error.strerror}; make it readable for you") from None


class Repository:
    """A repository on the Hub or on ModelScope, at the commit that its revision means now."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.server: Any = hub if source.hub else modelscope
        self.commit, self.found = self.server.resolve(source)
        self.files = {path: int(file["size"]) for path, file in sorted(self.found.items())}

    def head(self, path: str, most: int) -> bytes:
        # ModelScope has a file at the commit that changed it last.
        commit = self.found[path].get("commit", self.commit)
        found: bytes = self.server.head(self.source, commit, path, most)
        return found


def document(place: Place, path: str) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where the file is not there.

    Raises:
        UserError: the file holds no JSON object.
    """
    if path not in place.files:
        return {}
    try:
        found = json.loads(place.head(path, LARGEST))
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not a JSON file; fetch it again") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: should be an object, `{{...}}`; fetch it again")
    return found


def text(place: Place, path: str) -> str:
    """Return a file's text; an empty one where the file is not there."""
    return place.head(path, LARGEST).decode("utf-8", "replace") if path in place.files else ""
