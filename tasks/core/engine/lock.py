"""One build at a time for each stage and model.  The kernel takes a dead process's lock back."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from .. import console, paths


@contextmanager
def held(model: str, stage: str) -> Iterator[None]:
    """Hold the lock of a stage and model; say for whom we wait."""
    path = paths.build() / model / "locks" / stage
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            console.say(f"   waiting for process {holder}, which builds {stage}:{model}")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


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
