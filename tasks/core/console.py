"""What a build prints: lines, progress, and values as people read them."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from .engine.manifest import Manifest

# Seconds after which work that goes on is worth a line where lines stay.
SILENCE = 60.0
_told = time.monotonic()
# The task that a thread works on, and whether it is the only one that runs.
_task = threading.local()
_is_alone = True
# Whether another program reads stdout.
_is_aside = False


def start(task: str) -> None:
    """Note the task that this thread works on, so that its lines can be told from others'."""
    global _told, _is_alone
    _task.name, _told = task, time.monotonic()
    # doit runs tasks side by side in threads of its own.
    _is_alone = threading.current_thread() is threading.main_thread()


def task() -> str:
    """Return the task that this thread works on, if it works on one."""
    return getattr(_task, "name", "")


def same_task() -> Callable[[], None]:
    """Return what makes another thread work on this one's task: the initializer of a pool."""
    return partial(setattr, _task, "name", task())


@contextmanager
def aside(wanted: bool) -> Iterator[None]:
    """Leave stdout to other programs, if wanted: lines go to stderr meanwhile."""
    global _is_aside
    before, _is_aside = _is_aside, wanted
    try:
        yield
    finally:
        _is_aside = before


def say(text: str) -> None:
    """Print a line at once; where tasks run side by side, with the task's name."""
    name = "" if _is_alone else f"   {task()}: "
    print(f"{name}{text.strip()}" if name else text, file=_stream(), flush=True)


def status(text: str) -> None:
    """Show progress: in place on a terminal, where it will be overwritten; else a line at times."""
    global _told
    if _stays_in_place():
        print(f"\r\033[K   {text}", end="", file=_stream(), flush=True)
    elif time.monotonic() - _told >= SILENCE:
        _told = time.monotonic()
        say(f"   {text}")


def clear() -> None:
    """Take the progress line away."""
    if _stays_in_place():
        print("\r\033[K", end="", file=_stream(), flush=True)


def _stays_in_place() -> bool:
    return _is_alone and _stream().isatty()


def _stream() -> TextIO:
    return sys.stderr if _is_aside else sys.stdout


def duration(seconds: float) -> str:
    """Return a time as people read it: 0.4 s, 12.3 s, 2:05, 1:02:05."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: float) -> str:
    """Return a number of bytes as people read it: 512 B, 2.4 MB, 16.1 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def summary(receipt: Manifest) -> str:
    """Return one line on a result: the facts that are single values, then files and bytes."""
    facts = [f"{name} {_short(value)}" for name, value in singles(receipt.facts).items()]
    count = len(receipt.files)
    files = f"{count} file{'s' if count != 1 else ''}, {size(receipt.size)}"
    return ", ".join([*facts, files])


def singles(facts: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Return the facts that are single values, as people want to see them."""
    return {
        name: value
        for name, value in facts.items()
        if name != "content" and isinstance(value, str | int | float) and type(value) is not bool
    }


def brief(text: str) -> str:
    """Return a text; of a digest, what is enough to tell it from others."""
    return text[:19] if text.startswith("sha256:") else text


def _short(value: str | int | float) -> str:
    return brief(f"{value:.4g}" if isinstance(value, float) else str(value))
