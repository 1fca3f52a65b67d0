"""A stage's receipt: what went in, what came out.  Written last, the only truth about freshness.

It holds no time, host, user or absolute path, so that equal results have equal manifests.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .. import paths
from . import digests

NAME = "manifest.json"


@dataclass(frozen=True)
class File:
    """A file of a stage: path below the stage's folder, size in bytes, digest."""

    path: str
    size: int
    digest: str


@dataclass(frozen=True)
class Manifest:
    """What manifest.json holds.

    Attributes:
        key: digest of stage and inputs; equal keys mean equal results.
        inputs: all that entered the key: digests of inputs, the recipe's values, the toolchain.
        files: every file of the stage but the manifest, by path.
        facts: the stage's own, for people and for later stages.
    """

    model: str
    stage: str
    key: str
    inputs: Mapping[str, Any]
    files: tuple[File, ...]
    facts: Mapping[str, Any]

    @property
    def content(self) -> str:
        """The digest of what came out; the same result made anew does not change it.

        A stage of which some bytes change nothing says its content itself, in its facts.
        """
        told = self.facts.get("content")
        return str(told) if told else digest_of([vars(file) for file in self.files])

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(file.size for file in self.files)


def canonical(value: Any) -> bytes:
    """Return a value as JSON with one spelling: sorted keys, no blanks, UTF-8.

    A dataclass is an object of its fields.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=vars
    )
    return text.encode()


def digest_of(value: Any) -> str:
    """Return the digest of a value's canonical JSON."""
    return f"sha256:{hashlib.sha256(canonical(value)).hexdigest()}"


def key_of(stage: str, inputs: Mapping[str, Any]) -> str:
    """Return the key of a stage's result."""
    return digest_of({"stage": stage, "inputs": inputs})


# By path: the state of the file when it was read, and what it held.  A build that looks at a
# hundred models asks for each manifest ten times.
_known: dict[Path, tuple[digests.State, Manifest | None]] = {}


def of(model: str, stage: str) -> Manifest | None:
    """Return the manifest of a stage's result in the build folder, or None as `read` does."""
    return read(paths.manifest(model, stage))


def read(path: Path) -> Manifest | None:
    """Return the manifest in a file, or None where there is none that can be trusted."""
    try:
        state = digests.state_of(path)
    except OSError:
        return None
    if path in _known and _known[path][0] == state:
        return _known[path][1]
    found = _parse(path)
    if digests.is_at_rest(state):
        _known[path] = state, found
    return found


def _parse(path: Path) -> Manifest | None:
    try:
        raw = json.loads(path.read_bytes())
        if raw["version"] != 1 or raw["key"] != key_of(raw["stage"], raw["inputs"]):
            return None
        files = tuple(_file(**file) for file in raw["files"])
        facts = dict(raw["facts"].items())
        return Manifest(raw["model"], raw["stage"], raw["key"], raw["inputs"], files, facts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _file(path: Any, size: Any, digest: Any) -> File:
    if not (isinstance(path, str) and type(size) is int and isinstance(digest, str)):
        raise TypeError("no file of a manifest")
    return File(path, size, digest)


def write(manifest: Manifest, folder: Path) -> None:
    """Write the manifest into a stage's folder and make everything there durable."""
    content = {"version": 1, **asdict(manifest)}
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (folder / NAME).write_text(text, encoding="utf-8")
    sync(folder)


def describe(folder: Path) -> tuple[File, ...]:
    """Return every file below a folder, in the order of their paths."""
    return tuple(
        File(str(path.relative_to(folder)), path.stat().st_size, digests.of_result(path))
        for path in walk(folder)
        if path != folder / NAME
    )


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, folder by folder in order; every link counts as a file.

    Raises:
        OSError: a folder cannot be read.
    """
    for parent, folders, names in os.walk(folder, onerror=_refuse):
        folders.sort()
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        yield from (Path(parent) / name for name in sorted([*names, *links]))


def _refuse(error: OSError) -> None:
    raise error


def intact(manifest: Manifest, folder: Path) -> bool:
    """Return whether the files are as the manifest says: by stat, by digest where stat differs."""
    return next(_changed(manifest, folder), None) is None


def changed(manifest: Manifest, folder: Path) -> list[str]:
    """Return the paths of the files that are not as the manifest says."""
    return list(_changed(manifest, folder))


def _changed(manifest: Manifest, folder: Path) -> Iterator[str]:
    for file in manifest.files:
        path = folder / file.path
        try:
            same = path.stat().st_size == file.size and (
                (digests.known(path) or digests.of_file(path)) == file.digest
            )
        except OSError:
            same = False
        if not same:
            yield file.path


def sync(folder: Path) -> None:
    """Make a folder's files and names survive a power cut."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent) / name
            if not path.is_symlink():
                fsync(path)
        fsync(Path(parent))


def fsync(path: Path) -> None:
    """Make a file's content, or the names in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
