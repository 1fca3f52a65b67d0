"""FastGPT's config.json, 4.6.8 to 4.8.19, on disk.

The file before a change stays beside it under a name of its own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import configtext

NAME = "config.json"


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
    """Return the entry that the file has for a model."""
    return configtext.entry(_read(path), model, path)


def has_list(path: Path) -> bool:
    """Return whether the file has a list of chat models."""
    return configtext.has_list(_read(path), path)


def others(path: Path, model: str) -> list[str]:
    """Return the other models that the file names."""
    return configtext.others(_read(path), model, path)


def put(path: Path, wanted: dict[str, Any]) -> Path | None:
    """Put an entry into the file; return the file before, if that was changed."""
    old = _read(path)
    new = configtext.merge(old, wanted, path)
    return None if new == old else write(path, new)


def make(path: Path, wanted: dict[str, Any]) -> None:
    """Make a file that holds an entry alone."""
    _publish(path, configtext.alone(wanted))


def take_out(path: Path, model: str, before: dict[str, Any] | None, *, made_list: bool) -> Path:
    """Take an entry out, or put the one before it back; return the file before."""
    text = _read(path)
    if before:
        return write(path, configtext.merge(text, before, path))
    return write(path, configtext.without(text, model, path, with_list=made_list))


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


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start}: not UTF-8; save the file as UTF-8") from None
