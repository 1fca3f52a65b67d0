"""Servers that outlive the build, by design: started once, found again, stopped when asked.

What is known of one is in build/.servers/<name>/: `process.json` says which process it is, and
`server.log` has its output.  Everything else of ours ends with the build (process.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import paths
from ..engine import manifest, process
from ..errors import UserError

GRACE = 20.0
BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Process:
    """A process and what tells it from a later one with the same number.

    Attributes:
        started: clock ticks after the machine's start, as the kernel has it.
        command: the digest of how it was started.
        extras: what it was started with beyond what every start has.
    """

    pid: int
    started: int
    boot: str
    command: str
    extras: Sequence[str] = ()


def folder(name: str) -> Path:
    """Return where a server's log and files are."""
    return paths.build() / ".servers" / name


def log(name: str) -> Path:
    """Return the file that a server's output goes to."""
    return folder(name) / "server.log"


def start(
    name: str, command: Sequence[str], environ: Mapping[str, str], extras: Sequence[str] = ()
) -> Process:
    """Start a server in a session of its own; return what it is known by.

    Raises:
        UserError: there is no such program.
    """
    folder(name).mkdir(parents=True, exist_ok=True)
    output = os.open(log(name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        # It keeps no descriptor that we were given, such as that of a lock around the build.
        child = subprocess.Popen(
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**process.foreign_environ(), **environ},
            start_new_session=True,
            close_fds=True,
        )
    except OSError as error:
        raise UserError(f"{command[0]}: {error.strerror}; correct the path") from None
    finally:
        os.close(output)
    pid = child.pid
    # Nobody waits for it: a status that is set keeps Python from complaining.
    child.returncode = 0
    made = Process(pid, _started(pid) or 0, _boot(), _digest(command, environ), extras)
    (folder(name) / "process.json").write_text(json.dumps(asdict(made)) + "\n")
    return made


def find(name: str) -> Process | None:
    """Return a server's process, if it is still there."""
    known = _known(name)
    return known if known and _started(known.pid) == known.started else None


def is_as_asked(found: Process, command: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Return whether a process was started in the way that is asked for now."""
    return found.command == _digest(command, environ)


def stop(name: str) -> bool:
    """Stop a server with all of its processes; return whether there was one."""
    known = _known(name)
    # Where another process has the number by now, nothing of the server's session is left.
    if known is None or _started(known.pid) not in (None, known.started):
        return False
    there = bool(list(_group(known.pid)))
    # A server that was killed leaves its children; meanwhile nobody else can get its number.
    for number in (signal.SIGTERM, signal.SIGKILL):
        if list(_group(known.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(known.pid, number)
            _wait(known.pid, GRACE)
    (folder(name) / "process.json").unlink(missing_ok=True)
    return there


def _known(name: str) -> Process | None:
    """Return what was noted of a server's process; None after a restart of the machine."""
    try:
        noted = Process(**json.loads((folder(name) / "process.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return noted if noted.boot == _boot() else None


def _wait(group: int, seconds: float) -> None:
    end = time.monotonic() + seconds
    while list(_group(group)) and time.monotonic() < end:
        # Our own child stays as a zombie until it is asked for.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(group, os.WNOHANG)
        time.sleep(0.1)


def _group(number: int) -> Iterator[int]:
    """Yield the live processes of a session that we began."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields and fields[0] != "Z" and fields[3] == str(number):
                yield int(entry.name)


def _started(pid: int) -> int | None:
    """Return when a live process was started; None where there is none."""
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] != "Z" else None


def _stat(pid: int) -> list[str]:
    """Return /proc/<pid>/stat from the state on; the name before it may hold blanks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _boot() -> str:
    return BOOT.read_text().strip()


def _digest(command: Sequence[str], environ: Mapping[str, str]) -> str:
    # Of a secret, the digest tells too much; that there is one will do.
    shown = {name: "set" if "KEY" in name else value for name, value in environ.items()}
    return paths.short(manifest.digest_of([list(command), shown]))
