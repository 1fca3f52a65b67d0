"""What a build prints: doit's own marks, a line on each result, failures without noise."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from doit.reporter import ConsoleReporter

from .engine import untouched

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


def same_task() -> Callable[[], None]:
    """Return what makes another thread work on this one's task: the initializer of a pool."""
    return partial(setattr, _task, "name", getattr(_task, "name", ""))


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
    name = "" if _is_alone else f"   {getattr(_task, 'name', '')}: "
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
    facts = [
        f"{name} {_short(value)}"
        for name, value in receipt.facts.items()
        if name != "content" and _is_single(value)
    ]
    count = len(receipt.files)
    files = f"{count} file{'s' if count != 1 else ''}, {size(receipt.size)}"
    return ", ".join([*facts, files])


def _is_single(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text[:19] if text.startswith("sha256:") else text


def quietly(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """End on Ctrl-C without a traceback; for sys.excepthook."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)


class Reporter(ConsoleReporter):  # type: ignore[misc]  # doit is untyped
    """doit's console reporter; a failure is said once, and the end says how long it took."""

    desc = "what ran, what it made, what failed"

    def __init__(self, outstream: Any, options: Any) -> None:
        # doit took sys.stdout as it was when doit was imported.
        super().__init__(sys.stdout if outstream is sys.__stdout__ else outstream, options)
        sys.excepthook = quietly
        self.started = time.monotonic()
        self.ran = 0
        self.said = ""

    def write(self, text: str) -> None:
        """Print, and remember what was printed."""
        super().write(text)
        self.said += text

    def execute_task(self, task: Any) -> None:
        """Note a task that starts."""
        super().execute_task(task)
        self.ran += bool(task.actions)

    def _write_failure(self, result: Any, write_exception: bool = True) -> None:
        fail = result["exception"]
        if fail.get_name() == "UnmetDependency":
            return
        clear()
        self.outstream.flush()
        sys.stderr.write(f"ERROR: {result['task'].name}: {fail.get_msg().strip()}\n")

    def complete_run(self) -> None:
        """Say what the run came to."""
        for message in self.runtime_errors:
            sys.stderr.write(f"ERROR: {message}\n")
        if self.ran:
            plural = "s" if self.ran != 1 else ""
            took = duration(time.monotonic() - self.started)
            self.write(f"{self.ran} task{plural} ran in {took}{self._outcome()}\n")
        elif not self.failures and not self.runtime_errors and not sys.exc_info()[0]:
            untouched.note(sys.argv[1:], self.said)

    def _outcome(self) -> str:
        """Return how many tasks failed, and how many waited for one that did."""
        kept = sum(f["exception"].get_name() == "UnmetDependency" for f in self.failures)
        failed = len(self.failures) - kept
        return f", {failed} failed" * bool(failed) + f", {kept} could not begin" * bool(kept)
