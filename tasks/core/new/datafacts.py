"""What can be known of a dataset from its first rows: for the recipe that `doit new` writes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from .survey import Place

# Enough of a file for its first rows.
SEEN = 256 << 10


@dataclass(frozen=True)
class DataFacts:
    """What was found out of a dataset; None where it was not.

    Attributes:
        format: the recipe's word for how a row looks.
        folder: where the rows are, below the dataset.
        files: how many files of rows there are; `size` is the bytes of all.
        keys: those of the first row, where it has no form that we know.
    """

    format: str | None = None
    folder: str = "."
    files: int = 0
    size: int = 0
    keys: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def of(place: Place) -> DataFacts:
    """Return what the files of a dataset tell; of several folders, that with most bytes counts."""
    rows = {path: size for path, size in place.files.items() if _has_rows(place, path)}
    rows = rows or {path: size for path, size in place.files.items() if _is_text(path)}
    if not rows:
        kinds = sorted({PurePosixPath(path).suffix or path for path in place.files})[:6]
        there = ", ".join(kinds) or "nothing"
        return DataFacts(
            notes=(f"No .jsonl or .txt file and no .json list is there, only {there}.",)
        )
    folders: dict[str, int] = {}
    for path, size in rows.items():
        folder = str(PurePosixPath(path).parent)
        folders[folder] = folders.get(folder, 0) + size
    folder = max(folders, key=lambda name: folders[name])
    chosen = sorted(path for path in rows if str(PurePosixPath(path).parent) == folder)
    plain = chosen[0].endswith(".txt")
    row = {"text": ""} if plain else first_row(place.head(chosen[0], SEEN))
    others = sorted(set(folders) - {folder})
    notes = (f"More rows are in {', '.join(map(json.dumps, others[:5]))}.",) if others else ()
    found = form(row)
    keys = () if found else tuple(json.dumps(key) for key in list(row)[:10])
    return DataFacts(found, folder, len(chosen), folders[folder], keys, notes)


def _has_rows(place: Place, path: str) -> bool:
    if path.endswith(".jsonl"):
        return True
    return path.endswith(".json") and place.head(path, 64).lstrip().startswith(b"[")


def _is_text(path: str) -> bool:
    """Return whether a file may be text to learn; every repository has some that are not."""
    name = PurePosixPath(path).name.lower()
    return name.endswith(".txt") and not name.startswith(("license", "readme", "requirements"))


def first_row(head: bytes) -> Mapping[str, Any]:
    """Return the first row in the first bytes of a file; an empty one where none is whole."""
    text = head.decode("utf-8", "ignore").lstrip().removeprefix("[").lstrip()
    try:
        row, _ = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return {}
    return row if isinstance(row, dict) else {}


def form(row: Mapping[str, Any]) -> str | None:
    """Return the form of a row, by its keys, in the words of `data.format`."""
    if isinstance(row.get("conversation"), list):
        return "agentflan"
    if isinstance(row.get("messages"), list):
        return "openai"
    if isinstance(row.get("conversations"), list):
        return "sharegpt"
    if {"instruction", "output"} <= set(row):
        return "alpaca"
    return "text" if isinstance(row.get("text"), str) else None
