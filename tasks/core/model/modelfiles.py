"""Which files of a model's folder are weights, and which go into an image, archive or upload."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from ..engine import digests, manifest
from ..errors import UserError

# In the words of .dockerignore, which is rendered from this list: Docker leaves out the same files.
# `**/` is any depth, no `**/` is the model's own folder only; `*` is any part of one name.
LEFT_OUT = (
    "**/.git",
    "**/.gitattributes",
    "**/.gitignore",
    "**/.cache",
    "**/.DS_Store",
    "**/__pycache__",
    "**/*.pth",
    "**/*.log",
    "manifest.json",
    "Dockerfile",
    "Dockerfile.dockerignore",
    ".dockerignore",
)

# The model's card, where a copy of it lies beside the weights: no part of them.
CARD = "README.md"

# Control characters, lone surrogates (a name that is not UTF-8), and Windows' path separator.
_BAD = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ud800-\udfff]")
# In a layer such a name deletes another file (image-spec: layer.md, whiteouts).
_WHITEOUT = ".wh."


def weights(sizes: Mapping[str, int]) -> int:
    """Return the bytes of the weights in one form; others, and other programs' copies, repeat them.

    Args:
        sizes: the bytes of each file, by path below the model's folder.
    """
    for form in ("*.safetensors", "pytorch_model*.bin"):
        found = [
            size
            for path, size in sizes.items()
            if fnmatchcase(path, form) and "/" not in path and not path.startswith("consolidated")
        ]
        if found:
            return sum(found)
    return 0


def is_left_out(path: str) -> bool:
    """Return whether a path, relative to the model's folder, stays here."""
    names = path.split("/")
    return any(
        fnmatchcase(name, pattern.removeprefix("**/"))
        for pattern in LEFT_OUT
        for name in (names if pattern.startswith("**/") else names[:1])
    )


def outgoing(folder: Path) -> list[str]:
    """Return the files that go out, as sorted POSIX paths below the folder; links to files count.

    Raises:
        UserError: there is none, or one cannot be packed: a link that leads to a folder or nowhere,
            a device or socket, a name that tools downstream would misread; a file of no stage.
    """
    found = sorted(_walk(folder, ""))
    if not found:
        raise UserError(f"{folder}: holds no file of a model; build it anew")
    receipt = manifest.read(folder / manifest.NAME)
    made = {file.path for file in receipt.files} if receipt else set(found)
    found = [path for path in found if path in made or path != CARD]
    strange = [path for path in found if path not in made]
    if strange:
        raise UserError(
            f"{folder / strange[0]}: no stage made this; take it away, or it would go out"
        )
    return found


def pieces(path: Path, size: int, start: int = 0) -> Iterator[memoryview]:
    """Yield a file's bytes from an offset on, 1 MiB at a time; a piece is good until the next one.

    Raises:
        UserError: the file is not `size` bytes long, or changed while it was read.
    """
    state = digests.state_of(path)
    buffer = memoryview(bytearray(digests.BLOCK))
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        while state[2] == size and (count := file.readinto(buffer)):
            yield buffer[:count]
    if state[2] != size or digests.state_of(path) != state:
        raise UserError(f"{path}: changed while it was read; run again when it is at rest")


def _walk(folder: Path | str, prefix: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{prefix}{entry.name}"
            if is_left_out(path):
                continue
            _check_name(entry)
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path, f"{path}/")
            elif entry.is_file():
                yield path
            else:
                raise UserError(f"{entry.path}: {_oddity(entry)}, not a file; take it away")


def _check_name(entry: os.DirEntry[str]) -> None:
    if _BAD.search(entry.name) or entry.name.startswith(_WHITEOUT):
        raise UserError(f"{entry.path!r}: a name that not every tool reads alike; rename it")


def _oddity(entry: os.DirEntry[str]) -> str:
    if not entry.is_symlink():
        return "a device, pipe or socket"
    return "a link to a folder" if entry.is_dir() else "a link that leads nowhere"
