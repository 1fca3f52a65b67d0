"""A build that found nothing to do is found again without looking into anything.

When all tasks of a run were fresh, the state of every file and folder that it looked at is noted,
if it asked nobody else.
While none of them has changed, the same command would find the same; `./doitw` then says so and
starts nothing else.  Tracing what is read, not declaring it, is how fabricate and tup do it.

Run as a program by doitw, so it needs the standard library alone:

    python -S tasks/core/engine/untouched.py [TASK ...]
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    del sys.path[0]  # our own folder, whose modules are no libraries

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
NOTES = ROOT / ".venv" / "untouched"
MOST = 20
# Two writes within one tick of the kernel's clock (250 Hz) leave the same times.
TICK_NS = 4_000_000

State = list[int] | None

_seen: set[str] = set()
_named: set[str] = set()
_since = 0
# Whether this process asked a server or another program, whose answers can change unseen.
_asked = False
# Whether it said more than what will be said again.
_warned = False


def main() -> None:
    """Say that all is fresh if it must be, else become doit."""
    said = recall(sys.argv[1:])
    if said is not None:
        _say(said)
        return
    # In this process: a new one would start Python and import all of the above once more.
    import site

    site.main()
    sys.argv[0] = str(ROOT / ".venv/bin/doit")
    from doit.__main__ import main as doit

    doit()


def _say(text: str) -> None:
    """Print; that nobody hears it is no failure, as it is none of a build."""
    try:
        print(text, end="", flush=True)  # stdout may be closed
    except OSError:
        # What is left in its buffer is written once more at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def watch() -> None:
    """Begin to note what this process looks at."""
    global _since
    if not _since:
        _since = time.time_ns()
        sys.addaudithook(_hear)


def saw(path: str | os.PathLike[str]) -> None:
    """Note a path of which only the state was asked for, which Python tells no audit hook."""
    if _since:
        _named.add(os.path.abspath(path))  # noqa: PTH100  # pathlib's is ten times slower


def not_noted() -> None:
    """Keep nothing of this run: what it warned of is to be said each time."""
    global _warned
    _warned = True


def _hear(event: str, arguments: Sequence[Any]) -> None:
    """Note files opened for reading and folders listed; descriptors have been opened before."""
    global _asked
    if event == "open":
        path, _, flags = arguments
        if isinstance(path, str) and not (flags or 0) & (os.O_WRONLY | os.O_RDWR):
            _seen.add(os.path.abspath(path))  # noqa: PTH100
    elif event in ("os.scandir", "os.listdir") and not isinstance(arguments[0], int):
        _seen.add(os.path.abspath(os.fspath(arguments[0] or ".")))  # noqa: PTH100
    elif event in ("socket.connect", "subprocess.Popen"):
        _asked = True


def note(words: Sequence[str], said: str) -> None:
    """Keep what a run of `doit WORDS` has seen and said, all of its tasks being fresh."""
    told = any(word[:1] == "-" or "=" in word for word in words)
    if told or _asked or _warned or not _since or not NOTES.parent.is_dir():
        return
    states = {path: _state(path) for path in sorted({*_looked_at()})}
    if any(state and max(state[3:]) > _since - TICK_NS for state in states.values()):
        return  # changed while we looked
    with contextlib.suppress(OSError):
        NOTES.mkdir(exist_ok=True)
        place = _place(words)
        scratch = place.with_suffix(f".{os.getpid()}")
        scratch.write_text(json.dumps({"said": said, "states": states}))
        scratch.replace(place)
        for old in sorted(NOTES.iterdir(), key=lambda p: p.stat().st_mtime)[:-MOST]:
            old.unlink()


def _looked_at() -> Iterator[str]:
    """Yield what was seen, the folders that files were looked for in, and our own program."""
    libraries = os.path.dirname(os.__file__)  # noqa: PTH120
    foreign = (f"{sys.prefix}/", f"{libraries}/", "/proc/", "/sys/")
    opened = {path for path in _seen if not path.startswith(foreign) and not _is_device(path)}
    for path in _named | opened:
        yield path
        yield os.path.dirname(path)  # noqa: PTH120
    yield from map(str, (ROOT / "tasks").rglob("*.py"))
    yield from (str(ROOT / name) for name in ("dodo.py", "pyproject.toml"))


def _is_device(path: str) -> bool:
    return path.startswith("/dev/") and not path.startswith("/dev/shm/")  # noqa: S108


def recall(words: Sequence[str]) -> str | None:
    """Return what `doit WORDS` would say if nothing was touched since it found all fresh."""
    try:
        noted = json.loads(_place(words).read_bytes())
        untouched = all(_state(path) == state for path, state in noted["states"].items())
        return str(noted["said"]) if untouched else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _place(words: Iterable[str]) -> Path:
    """Return the file for a command in this environment: settings choose recipes and results."""
    chosen = {n: v for n, v in os.environ.items() if n.startswith("MODELWRIGHT_") or n == "HOME"}
    text = json.dumps([list(words), sorted(chosen.items()), sys.version])
    return NOTES / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"


def _state(path: str) -> State:
    """Return what tells one state of a path from the next; a link's is its target's."""
    try:
        stat = os.stat(path)  # noqa: PTH116  # thousands of them, and pathlib's takes thrice as long
    except OSError:
        return None
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


if __name__ == "__main__":
    main()
