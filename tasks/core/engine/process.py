"""Run a foreign tool: a log file, live output, a true exit status, and no orphans."""

from __future__ import annotations

import collections
import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO

from ..errors import CommandFailed

GRACE = 10.0
KEEPER = Path(__file__).with_name("keeper.py")

# What this process ran, by log: the ledger tells it.
ran: dict[Path, list[str]] = {}


def run(
    command: Sequence[str],
    log: Path,
    *,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    each_line: Callable[[str], None] | None = None,
    what_next: str = "",
) -> None:
    """Run a command to its end; its output goes to `log` and, line by line, to `each_line`.

    The command runs in a process group of its own, kept by keeper.py.  When the build is stopped,
    the group gets SIGTERM and after ten seconds SIGKILL; when the build dies, the keeper ends it.

    Raises:
        CommandFailed: it ended with another status than 0.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    ran.setdefault(log, []).append(shlex.join(command))
    stopping = unwound_by(signal.SIGTERM, signal.SIGHUP)
    with log.open("wb") as file, stopping, _lifeline() as pipe:
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", str(KEEPER), str(pipe), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**foreign_environ(), **(environ or {})},
            cwd=cwd,
            start_new_session=True,
            pass_fds=[pipe],
        )
        end = threading.Thread(target=_end_rest, args=[child.pid], daemon=True)
        end.start()
        try:
            tail = _copy(child, file, each_line)
            end.join()
        finally:
            _stop(child, end)
    status = child.returncode
    if status:
        raise CommandFailed(_message(command, status, log, tail, what_next), status, tail)


def _copy(
    child: subprocess.Popen[bytes], log: IO[bytes], each_line: Callable[[str], None] | None
) -> list[str]:
    """Pass on what a command prints while it runs; return the last lines."""
    tail: collections.deque[str] = collections.deque(maxlen=12)
    assert child.stdout is not None
    for raw in child.stdout:
        log.write(raw)
        log.flush()
        line = raw.decode("utf-8", "replace").rstrip("\n")
        tail.append(line)
        if each_line:
            each_line(line)
    return list(tail)


def foreign_environ() -> dict[str, str]:
    """Return our environment without what is ours alone: settings, their secrets, Python's."""
    ours = ("MODELWRIGHT_", "XTUNER_", "PYTHON")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


@contextlib.contextmanager
def _lifeline() -> Iterator[int]:
    """Offer the end of a pipe whose other end closes when this process is gone."""
    reading, writing = os.pipe()
    try:
        yield reading
    finally:
        os.close(reading)
        os.close(writing)


def _end_rest(leader: int) -> None:
    """Wait for the command's end and end what it left running, which may hold its output open."""
    os.waitid(os.P_PID, leader, os.WEXITED | os.WNOWAIT)
    _kill(leader, signal.SIGKILL)


def _stop(child: subprocess.Popen[bytes], end: threading.Thread) -> None:
    """End the whole process group, also when we are told a second time to stop.

    The command is reaped last: until then its number, which is the group's, means nobody else.
    """
    try:
        if end.is_alive():
            _kill(child.pid, signal.SIGTERM)
            end.join(GRACE)
    finally:
        _kill(child.pid, signal.SIGKILL)
        child.wait()


def _kill(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


@contextlib.contextmanager
def unwound_by(*numbers: int) -> Iterator[None]:
    """Let some signals unwind the stack as Ctrl-C does, so that what was started is ended."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    try:
        before = {n: signal.signal(n, leave) for n in numbers}
    except ValueError:  # not the main thread, which alone may set handlers
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _message(
    command: Sequence[str], status: int, log: Path, tail: Sequence[str], what_next: str
) -> str:
    how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"failed ({status})"
    lines = [f"{Path(command[0]).name} {how}", f"  command: {shlex.join(command)}", f"  log: {log}"]
    lines += [f"  | {line}" for line in tail if line.strip()]
    return "\n".join([*lines, *([what_next] if what_next else [])])
