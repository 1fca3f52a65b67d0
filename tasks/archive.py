"""Pack the model into merged.zip.

The files are stored, not deflated: weights hardly shrink, and a stored file can be read in place.
Equal models are equal archives: sorted names, mode 0644, the earliest date that zip knows.

An entry's checksum stands before its content, so that every reader takes it, also one that reads
the zip from a pipe (of stored entries, Java's and busybox' refuse a checksum that follows).
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, cast
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from .core import console, paths
from .core.engine import digests
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.model import ahead, modelfiles
from .core.model.ahead import Job
from .core.recipe import Recipe

VERSION = 3

NAME = "merged.zip"
EARLIEST = (1980, 1, 1, 0, 0, 0)
UNIX = 3
PIECE = 1 << 21


def wanted(recipe: Recipe) -> bool:
    return True


def task(recipe: Recipe) -> TaskDict:
    return {
        "doc": f"model -> {NAME}",
        "file_dep": [paths.manifest(recipe.name, recipe.weights)],
        "targets": [NAME],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    return {"model": recipe.name, "left_out": list(modelfiles.LEFT_OUT)}


def entry(name: str, size: int, crc: int) -> ZipInfo:
    """Return a file's entry, complete beforehand; only big files get ZIP64 fields."""
    info = ZipInfo(name, EARLIEST)
    info.compress_type = ZIP_STORED
    info.create_system = UNIX
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.file_size = info.compress_size = size
    info.CRC = crc
    return info


def run(recipe: Recipe, folder: Path) -> Facts:
    count = pack(paths.output(recipe.name, recipe.weights), folder / NAME, recipe.name)
    return {"packed": count}


def pack(model: Path, archive: Path, name: str) -> int:
    """Pack a model's files into a zip, below a folder called `name`; return how many there are.

    Raises:
        UserError: a file changed meanwhile, or cannot be packed.
    """
    from .core.model import checksums
    from .core.model.hashedfile import HashedFile

    names = modelfiles.outgoing(model)
    with HashedFile(archive) as target, ZipFile(cast(IO[bytes], target), "w") as zipped:
        for path, state, crc in checksums.summed(model / each for each in names):
            each = path.relative_to(model).as_posix()
            console.status(f"packing {each}")
            # What ZipFile.open writes to a file without seek() has its checksum after it.
            info = entry(f"{name}/{each}", state[2], crc)
            info.header_offset = target.tell()
            target.write(info.FileHeader())
            for piece in ahead.filled(_pieces(path, state[2]), target.lend):
                target.write(piece)
            if digests.state_of(path) != state:
                raise _changed(path)
            zipped.filelist.append(info)
            zipped.start_dir = target.tell()
    digests.remember(archive, target.digest)
    console.clear()
    return len(names)


def _pieces(path: Path, size: int) -> Iterator[Job]:
    """Yield what reads a file, piece by piece."""
    for start in range(0, size, PIECE):
        yield Job(min(PIECE, size - start), partial(_read, path, start))


def _read(path: Path, start: int, room: memoryview) -> None:
    if ahead.read(path, start, room) < len(room):
        raise _changed(path)


def _changed(path: Path) -> UserError:
    return UserError(f"{path}: changed while it was read; run again when it is at rest")
