"""One build at a time for each stage and model.  The kernel takes a dead process's lock back."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from .. import console, paths


@contextmanager
def held(model: str, stage: str, doing: str = "") -> Iterator[None]:
    """Hold the lock of a stage and model; say for whom we wait, and what that one is doing."""
    with _opened(model, stage) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            what = doing or f"builds {stage}:{model}"
            console.say(f"   waiting for process {holder}, which {what}")
            fcntl.flock(file, fcntl.LOCK_EX)
        # A number for people: on a full disk, where it cannot be written, removing still works.
        with contextlib.suppress(OSError):
            os.ftruncate(file.fileno(), 0)
            os.write(file.fileno(), str(os.getpid()).encode())
        yield


@contextmanager
def briefly(model: str, name: str) -> Iterator[None]:
    """Hold a lock for a moment; nobody needs to be told who waits."""
    with _opened(model, name) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def among(path: Path) -> Iterator[None]:
    """Hold a file's lock together with all others who hold it so."""
    with _open(path) as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


@contextmanager
def alone(path: Path, waiting: str | None = None) -> Iterator[bool]:
    """Hold a file's lock alone, and yield whether we do: nobody else may hold it.

    Args:
        waiting: for whom we wait, if we do; empty where nobody needs to be told.
    """
    while True:
        with _open(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is None:
                    yield False
                    return
                if waiting:
                    console.say(f"   waiting for {waiting}")
                fcntl.flock(file, fcntl.LOCK_EX)
            # Who held it may have removed the file; others lock the new one.
            if os.fstat(file.fileno()).st_nlink:
                yield True
                return


def is_held(model: str, stage: str) -> bool:
    """Return whether some build, here or elsewhere, is making a stage now."""
    try:
        with (paths.build() / model / "locks" / stage).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _opened(model: str, name: str) -> TextIO:
    return _open(paths.build() / model / "locks" / name)


def _open(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+")
