"""Write FastGPT's config.json with the model's entry.

What goes in: the recipe, and FastGPT's own config.json where MODELWRIGHT_FASTGPT_DIR says it is.
What comes out: the whole new file, in the stage's folder.  FastGPT's own is read, never written.

FastGPT 4.6.8 to 4.8.19 take chat models from `llmModels` of this file when they start; from 4.8.20
on they are in its database, and `POST /api/admin/initv4820` takes them over from the file.  A file
that is new holds the entry alone: by their source (read, not run) these releases fill in
`feConfigs` and `systemEnv` and take every missing list as empty.  That is enough to chat.  A
knowledge base also needs an entry in `vectorModels` and a chat model with `datasetProcess: true`.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from .core import catalog, digests, json5, json5edit, paths, settings
from .core.errors import UserError
from .core.recipe import Recipe
from .core.stage import Facts, TaskDict

VERSION = 1
# FastGPT's file may hold keys of other services.
STORED = False

NAME = "config.json"
LIST = "llmModels"
# The lists of FastGPT up to 4.6.7; 4.6.6 changed their spelling.
OLD_LISTS = ("ChatModels", "chatModels")


def wanted(recipe: Recipe) -> bool:
    """Return whether the recipe has an application."""
    return recipe.app is not None


def task(recipe: Recipe) -> TaskDict:
    return {"doc": f"{recipe.name} -> FastGPT's {NAME}", "targets": [NAME]}


def key(recipe: Recipe) -> dict[str, Any]:
    """Return the entry, the file that it goes into, and what the entry is held against."""
    found = existing()
    parts = {
        "entry": entry(recipe),
        "context_length": catalog.context_length(recipe),
        NAME: digests.of_file(found) if found else None,
    }
    return {name: part for name, part in parts.items() if part is not None}


def entry(recipe: Recipe) -> dict[str, Any]:
    """Return the model's entry: the document's twenty fields in the document's order."""
    assert recipe.app is not None
    given = recipe.app.fastgpt.model_dump(mode="json")
    names = {field: given[field] or recipe.name for field in ("model", "name")}
    lengths = {
        field: given["maxContext"] if given[field] is None else given[field]
        for field in ("maxResponse", "quoteMaxToken")
    }
    return {field: _plain(value) for field, value in (given | names | lengths).items()}


def faults(recipe: Recipe, limit: int | None) -> list[str]:
    """Return what FastGPT would take and the model could not keep.

    Args:
        limit: how many tokens the model was made for, if that is known.
    """
    values, at = entry(recipe), f"{recipe.file}: app.fastgpt"
    context = values["maxContext"]
    found = [
        f"{at}.{field}: {values[field]} is more than maxContext; give it {context} or less"
        for field in ("maxResponse", "quoteMaxToken")
        if values[field] > context
    ]
    if limit is not None and context > limit:
        found.append(
            f"{at}.maxContext: {context} is more than the {limit} tokens that "
            f"{recipe.base.label} was made for; give it {limit} or less"
        )
    try:
        json.dumps(values, allow_nan=False)
    except ValueError:
        found.append(f"{at}: JSON has no .inf and no .nan; give a number")
    return found


def existing() -> Path | None:
    """Return FastGPT's own config.json, if there is one.

    Raises:
        UserError: the folder in the settings is none, or the file in it none that can be read.
    """
    found = settings.current()
    if not found.fastgpt_dir:
        return None
    folder = paths.inside(Path(found.fastgpt_dir))
    if not folder.is_dir():
        where = found.where("fastgpt_dir")
        raise UserError(f"{where}: no folder {folder}; correct it, or take it out")
    path = folder / NAME
    if path.is_dir():
        # Docker makes one in the place of a mounted file that is missing.
        raise UserError(f"{path}: a folder, not FastGPT's file; remove it and run again")
    if path.exists() and not os.access(path, os.R_OK):
        raise UserError(f"{path}: you may not read it; run as its owner, or have it made readable")
    return path if path.exists() else None


def merge(text: str, wanted: dict[str, Any], path: Path) -> str:
    """Return FastGPT's file with an entry in it, in the place of the one for the same model if any.

    Args:
        path: the file, for messages.

    Raises:
        UserError: the text is no FastGPT config.json of 4.6.8 or later.
    """
    try:
        root = json5.parse(text)
    except json5.Malformed as error:
        raise UserError(f"{path}:{error}; mend it, or move it away for a new file") from None
    if not isinstance(root.value, dict):
        raise UserError(f"{path}:1: should be an object, `{{...}}`; mend it, or move it away")
    models = root.member(LIST)
    if models is None:
        _refuse_old(root, text, path)
        return json5edit.append(text, root, [wanted], LIST)
    if not isinstance(models.value, list):
        line = json5.line_of(text, models.start)
        raise UserError(f"{path}:{line}: {LIST}: should be a list, `[...]`; make it one")
    same = [part for part in models.parts if _model(part) == wanted["model"]]
    if len(same) > 1:
        lines = " and ".join(str(json5.line_of(text, part.start)) for part in same)
        raise UserError(f"{path}: {LIST}: '{wanted['model']}' is there in lines {lines}; keep one")
    if not same:
        return json5edit.append(text, models, wanted)
    # As text, for 0 and false are equal to Python.
    if json.dumps(same[0].value) == json.dumps(wanted):
        return text
    return json5edit.replace(text, same[0], wanted)


def run(recipe: Recipe, folder: Path) -> Facts:
    """Write the new file."""
    if wrong := faults(recipe, catalog.context_length(recipe)):
        raise UserError("\n".join(wrong))
    made, found = entry(recipe), existing()
    path = folder / NAME
    if found is None:
        text = json.dumps({LIST: [made]}, indent=2, ensure_ascii=False) + "\n"
    else:
        text = merge(_read(found), made, found)
    path.write_bytes(text.encode())
    if found:
        # It can hold the keys of other models' services.
        shutil.copymode(found, path)
    return {"model": made["model"], "merged_into": NAME if found else "new file"}


def _plain(value: Any) -> Any:
    """Return a number without a fraction as the whole number that the document writes."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _model(part: json5.Node) -> Any:
    return part.value.get("model") if isinstance(part.value, dict) else None


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start}: not UTF-8; save the file as UTF-8") from None


def _refuse_old(root: json5.Node, text: str, path: Path) -> None:
    for name in OLD_LISTS:
        if old := root.member(name):
            raise UserError(
                f"{path}:{json5.line_of(text, old.lead)}: {name}: a file of FastGPT up to 4.6.7; "
                f"update FastGPT to 4.6.8 or later and start from its file, which has `{LIST}`"
            )
