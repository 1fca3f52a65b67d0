"""FastGPT's config.json, 4.6.8 to 4.8.19: one entry put in or taken out, all else kept.

Order, other entries, comments and layout stay; the file before a change stays beside it under a
name of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import json5, json5edit

NAME = "config.json"
LIST = "llmModels"
# The lists of FastGPT up to 4.6.7; 4.6.6 changed their spelling.
OLD_LISTS = ("ChatModels", "chatModels")


def find(folder: Path) -> Path | None:
    """Return FastGPT's own config.json in its folder, if there is one.

    Raises:
        UserError: it is none that can be read and written.
    """
    path = folder / NAME
    if path.is_dir():
        # Docker makes one in the place of a mounted file that is missing.
        raise UserError(f"{path}: a folder, not FastGPT's file; remove it and run again")
    if path.exists() and not os.access(path, os.R_OK):
        raise UserError(f"{path}: you may not read it; run as its owner, or have it made readable")
    return path if path.exists() else None


def entry_in(path: Path, model: str) -> dict[str, Any] | None:
    """Return the entry that the file has for a model.

    Raises:
        UserError: the text is no FastGPT config.json of 4.6.8 or later.
    """
    text = _read(path)
    same = _same(text, _models(text, _root(text, path), path), model, path)
    return dict(same.value) if same else None


def merge(text: str, wanted: dict[str, Any], path: Path) -> str:
    """Return FastGPT's file with an entry in it, in the place of the one for the same model if any.

    Args:
        path: the file, for messages.

    Raises:
        UserError: the text is no FastGPT config.json of 4.6.8 or later.
    """
    root = _root(text, path)
    models = _models(text, root, path)
    if models is None:
        return json5edit.append(text, root, [wanted], LIST)
    same = _same(text, models, wanted["model"], path)
    if same is None:
        return json5edit.append(text, models, wanted)
    # As text, for 0 and false are equal to Python.
    if json.dumps(same.value) == json.dumps(wanted):
        return text
    return json5edit.replace(text, same, wanted)


def without(text: str, model: str, path: Path, *, with_list: bool) -> str:
    """Return FastGPT's file without a model's entry.

    Args:
        with_list: take the list away, too, if it is empty then.
    """
    root = _root(text, path)
    models = _models(text, root, path)
    same = _same(text, models, model, path)
    if models is None or same is None:
        return text
    if with_list and len(models.parts) == 1:
        return json5edit.remove(text, root, models)
    return json5edit.remove(text, models, same)


def put(path: Path, wanted: dict[str, Any]) -> Path | None:
    """Put an entry into the file; return the file before, if that was changed."""
    old = _read(path)
    new = merge(old, wanted, path)
    return None if new == old else write(path, new)


def make(path: Path, wanted: dict[str, Any]) -> None:
    """Make a file that holds an entry alone."""
    _publish(path, alone(wanted))


def alone(wanted: dict[str, Any]) -> str:
    """Return a file that holds an entry and nothing else.

    By their source (read, not run) these releases fill in `feConfigs` and `systemEnv`, and take
    every missing list as empty.
    """
    return json.dumps({LIST: [wanted]}, indent=2, ensure_ascii=False) + "\n"


def has_list(path: Path) -> bool:
    """Return whether the file has a list of chat models."""
    text = _read(path)
    return _models(text, _root(text, path), path) is not None


def others(path: Path, model: str) -> list[str]:
    """Return the other models that the file names."""
    text = _read(path)
    models = _models(text, _root(text, path), path)
    return [str(_model(part)) for part in models.parts if _model(part) != model] if models else []


def take_out(path: Path, model: str, before: dict[str, Any] | None, *, made_list: bool) -> Path:
    """Take an entry out, or put the one before it back; return the file before."""
    text = _read(path)
    if before:
        return write(path, merge(text, before, path))
    return write(path, without(text, model, path, with_list=made_list))


def write(path: Path, text: str) -> Path:
    """Write the file anew and return the copy of it that stays.

    Raises:
        UserError: the folder cannot be written.
    """
    real = path.resolve()
    kept = next(
        name for n in range(1, 10_000) if not (name := path.with_name(f"{NAME}.bak-{n}")).exists()
    )
    try:
        shutil.copy2(real, kept)
        _publish(real, text)
    except PermissionError:
        raise UserError(
            f"{path}: you may not write it; run as its owner, or have it made writable"
        ) from None
    return kept


def _publish(path: Path, text: str) -> None:
    """Replace a file in one step; mode and owner stay, as others read it, too."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{NAME}-")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            found = path.stat()
            os.chmod(name, found.st_mode & 0o7777)  # noqa: PTH101
            if os.geteuid() == 0:
                os.chown(name, found.st_uid, found.st_gid)
        else:
            os.chmod(name, 0o644)  # noqa: PTH101  # a container's user reads it
        os.replace(name, path)  # noqa: PTH105
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _root(text: str, path: Path) -> json5.Node:
    try:
        root = json5.parse(text)
    except json5.Malformed as error:
        raise UserError(f"{path}:{error}; mend it, or move it away for a new file") from None
    if not isinstance(root.value, dict):
        raise UserError(f"{path}:1: should be an object, `{{...}}`; mend it, or move it away")
    return root


def _models(text: str, root: json5.Node, path: Path) -> json5.Node | None:
    models = root.member(LIST)
    if models is None:
        _refuse_old(root, text, path)
        return None
    if not isinstance(models.value, list):
        line = json5.line_of(text, models.start)
        raise UserError(f"{path}:{line}: {LIST}: should be a list, `[...]`; make it one")
    return models


def _same(text: str, models: json5.Node | None, model: str, path: Path) -> json5.Node | None:
    same = [part for part in models.parts if _model(part) == model] if models else []
    if len(same) > 1:
        lines = " and ".join(str(json5.line_of(text, part.start)) for part in same)
        raise UserError(f"{path}: {LIST}: '{model}' is there in lines {lines}; keep one")
    return same[0] if same else None


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
