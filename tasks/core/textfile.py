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
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LoadError(
            [f"{path}: byte {error.start}: not UTF-8; save the file as UTF-8"]
        ) from None
    except OSError as error:
        raise LoadError([f"{path}: {error.strerror}"]) from None
