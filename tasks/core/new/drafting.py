"""The text of a new recipe: what base and data tell, filled into templates/recipe.yaml.j2."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import console, paths, render
from ..sections import Base, Data
from ..sources import hub
from . import basefacts, datafacts, survey
from .basefacts import BaseFacts
from .datafacts import DataFacts
from .origins import Origin, origin

TEMPLATE = "recipe.yaml.j2"
SCHEMA = paths.ROOT / "recipes" / "schema.json"
# Below so many parameters a CPU trains, too.
SMALL = 500_000_000
LONGEST = 2048
# What needs no quotes in YAML, wherever it stands.
PLAIN = re.compile(r"[A-Za-z/~][\w./~@+-]*")
# A clone would bring the weights, so Git is not asked.
LOOKED_AT = ("hub", "modelscope")


@dataclass(frozen=True)
class Draft:
    """A recipe's text, and what was found out for it; `read` is whether files were looked at."""

    text: str
    facts: BaseFacts
    data: DataFacts | None
    read: bool


def draft(file: Path, base: str, data: str, *, offline: bool = False) -> Draft:
    """Return a recipe for a file that is not there yet.

    Args:
        base, data: repository, folder or URL, as people write them; `data` may be empty.
        offline: whether no server may be asked.

    Raises:
        UserError: no such folder or repository, or one that holds no model.
    """
    start = origin(base, file, "base")
    facts, read = _base(start, offline=offline)
    rows = origin(data, file, "data") if data else None
    found = _data(rows, offline=offline) if rows else None
    text = render.text(
        TEMPLATE,
        model=file.stem,
        schema=os.path.relpath(SCHEMA, file.parent.absolute()),
        base=start,
        facts=facts,
        read=read,
        data=rows,
        found=found,
        small=0 < facts.parameters < SMALL,
        max_length=min(LONGEST, facts.context or LONGEST),
        size=console.size,
        count=count,
        spelled=spelled,
    )
    return Draft(text, facts, found, read)


def _base(start: Origin, *, offline: bool) -> tuple[BaseFacts, bool]:
    """Return what is known of a base, and whether its files were looked at."""
    if start.way == "path":
        return basefacts.of(survey.Folder(start.folder), str(start.folder)), True
    if start.way not in LOOKED_AT or offline:
        return basefacts.by_name(start.value), False
    place = survey.Repository(Base.model_validate(_source(start)))
    try:
        return basefacts.of(place, start.value), True
    except hub.Gated as error:
        console.say(str(error))
        return basefacts.by_name(start.value, place.files, f"{error}."), False


def _data(rows: Origin, *, offline: bool) -> DataFacts:
    if rows.way == "path":
        return datafacts.of(survey.Folder(rows.folder))
    if rows.way not in LOOKED_AT or offline:
        return DataFacts()
    try:
        return datafacts.of(survey.Repository(Data.model_validate(_source(rows))))
    except hub.Gated as error:
        console.say(str(error))
        return DataFacts(notes=(f"{error}.",))


def _source(start: Origin) -> dict[str, str]:
    """Return a repository as a recipe names it."""
    return {start.way: start.value, **({"revision": start.revision} if start.revision else {})}


def spelled(value: str) -> str:
    """Return a text as YAML has it: quoted where it might be taken for something else."""
    words = ("true", "false", "yes", "no", "on", "off", "null", "y", "n", "~")
    plain = PLAIN.fullmatch(value) and value.lower() not in words
    return value if plain else json.dumps(value, ensure_ascii=False)


def count(number: int) -> str:
    """Return a number of parameters as people say it: 1.3 M, 8.0 B."""
    for unit, size in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


def told(found: Draft) -> Mapping[str, Any]:
    """Return what was found out, for people and programs: names and values, none empty."""
    facts, data = found.facts, found.data
    values = {
        "architecture": facts.architecture,
        "context": facts.context,
        "dtype": facts.dtype,
        "weights": facts.weights,
        "parameters": facts.parameters,
        "prompt_template": facts.template,
        "vllm": facts.vllm,
        "tool_parser": facts.tool_parser,
        "data.format": data and data.format,
        "data.files": data and data.files,
        "data.size": data and data.size,
    }
    return {name: value for name, value in values.items() if value}
