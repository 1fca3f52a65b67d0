"""Errors that a user can cause.

* UserError       a stage cannot do its work; printed without a traceback, exit status 1
  + CommandFailed a foreign tool failed; holds its last lines
* LoadError       a recipe or a setting is wrong; nothing starts, exit status 3
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path

from doit.exceptions import InvalidDodoFile

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UserError(Exception):
    """What is wrong, where, and what to do next, in words for the user."""


class CommandFailed(UserError):
    """A foreign tool ended with an error.

    Attributes:
        status: its exit status; negative for a signal.
        tail: the last lines of its output.
    """

    def __init__(self, message: str, status: int, tail: list[str]) -> None:
        super().__init__(message)
        self.status = status
        self.tail = tail


class LoadError(InvalidDodoFile):  # type: ignore[misc]  # doit is untyped
    """Every fault found while loading; doit prints it as `ERROR: ...` and exits with 3.

    Attributes:
        faults: each of them.
    """

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `, perhaps you meant 'x'?` for the known word nearest to `word`, or nothing."""
    matches = difflib.get_close_matches(word, list(known), 1, 0.6)
    return f", perhaps you meant '{matches[0]}'?" if matches else ""


def lookalike(path: Path) -> str:
    """Return a guess at what a path that is not there should be: what lies in its folder."""
    try:
        return nearest(path.name, {each.name for each in path.parent.iterdir()} - {path.name})
    except OSError:
        return ""


def instead(path: Path) -> str:
    """Return what lies at a path where something else is wanted, or nothing."""
    if path.is_file() or path.is_dir():
        return ", but a folder" if path.is_dir() else ", but a file"
    return ", but a link that leads nowhere" if path.is_symlink() else ""


def reason(error: UserError | OSError, build: Path) -> str:
    """Return what to say of an error: its own words, or what the system refused."""
    return refused(error, build) if isinstance(error, OSError) else str(error)


def refused(error: OSError, build: Path) -> str:
    """Return what the system refused, where, and what to do about it.

    Args:
        build: the build folder; the system names no path when a write fails.
    """
    # A copy that fails names the file that it reads, too, where it is the other that lacks room.
    named = (error.errno in _NO_ROOM and error.filename2) or error.filename
    where = Path(str(named)) if named else build
    ours = where.absolute().is_relative_to(build.absolute())
    elsewhere = "set MODELWRIGHT_BUILD to a folder you can write"
    cures = {
        errno.ENOSPC: "the disk is full; free some space and run doit again",
        errno.EDQUOT: "your quota is used up; free some space and run doit again",
        errno.EFBIG: "larger than a file may be here (`ulimit -f`); raise the limit",
        errno.EROFS: f"a read-only file system; {elsewhere}",
        errno.EACCES: f"permission denied; {elsewhere if ours else 'make it readable for you'}",
        errno.ENOTDIR: f"its parent is a file, not a folder; {elsewhere if ours else 'mend that'}",
    }
    other = f"{error.strerror or error}; {elsewhere if ours else 'mend that, and run doit again'}"
    return f"{where}: {cures.get(error.errno or 0, other)}"
