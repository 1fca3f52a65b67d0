"""Read the text that people write."""

from __future__ import annotations

from pathlib import Path

from .errors import LoadError


def read(path: Path) -> str:
    """Return a file's text.

    Raises:
        LoadError: it cannot be read, or is not UTF-8.
    """
    try:
        # Of a pipe that nobody writes to, the end would never come.
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise LoadError([f"{path}: not a file; move it away"])
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LoadError(
            [f"{path}: byte {error.start}: not UTF-8; save the file as UTF-8"]
        ) from None
    except OSError as error:
        raise LoadError([f"{path}: {error.strerror}"]) from None


def printable(text: str) -> str:
    """Return text in one line that changes nothing of a terminal: the rest is spelled out."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
