"""Files that are there whole or not at all: written under another name, then renamed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def write(path: Path, content: bytes | str) -> None:
    """Write a file so that it is there whole or not at all."""
    with coming(path) as new:
        new.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def coming(path: Path) -> Iterator[Path]:
    """Lend what a file is called until it is whole: a name of this thread, which begins with a dot.

    It gets its own name when the block ends; where the block fails, it goes.  Its folder is made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        yield new
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
