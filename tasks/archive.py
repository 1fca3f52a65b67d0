"""Pack the model into merged.zip.

The files are stored, not deflated: weights hardly shrink, and a stored file can be read in place.
Equal models are equal archives: sorted names, mode 0644, the earliest date that zip knows.

An entry's checksum stands before its content, so the files are read twice: once by all processors
for the checksums, once to be written and hashed at the same time.
"""

from __future__ import annotations

import stat
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from .core import console, paths
from .core.engine import digests
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.model import ahead, crc32, modelfiles
from .core.model.ahead import Job
from .core.model.hashedfile import HashedFile
from .core.recipe import Recipe

VERSION = 1

NAME = "merged.zip"
EARLIEST = (1980, 1, 1, 0, 0, 0)
UNIX = 3
PIECE = 1 << 20
# A file's checksum is put together from those of parts of this size.
PART = 1 << 26


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


def entry(name: str, size: int) -> ZipInfo:
    """Return a file's entry; its size is known beforehand, so only big files get ZIP64 fields."""
    info = ZipInfo(name, EARLIEST)
    info.compress_type = ZIP_STORED
    info.create_system = UNIX
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.file_size = size
    return info


def run(recipe: Recipe, folder: Path) -> Facts:
    count = pack(paths.output(recipe.name, recipe.weights), folder / NAME, recipe.name)
    return {"packed": count}


def pack(model: Path, archive: Path, name: str) -> int:
    """Pack a model's files into a zip, below a folder called `name`; return how many there are.

    Raises:
        UserError: a file changed meanwhile, or cannot be packed.
    """
    names = modelfiles.outgoing(model)
    files = [model / each for each in names]
    states = [digests.state_of(path) for path in files]
    sums = checksums(files)
    with HashedFile(archive) as target:
        # Private, but unchanged since Python 3.2: entries that are written by us are listed by it.
        zipped: Any = ZipFile(target, "w", allowZip64=True)  # type: ignore[call-overload]
        try:
            for each, path, state, crc in zip(names, files, states, sums, strict=True):
                console.status(f"packing {each}")
                info = entry(f"{name}/{each}", state[2])
                info.CRC, info.compress_size = crc, state[2]
                _add(zipped, info, path)
                if digests.state_of(path) != state:
                    raise _changed(path)
            zipped.start_dir, zipped._didModify = zipped.fp.tell(), True
            zipped.close()
        finally:
            # After an error it would write its list into the closed file when it is collected.
            zipped.fp = None
    digests.remember(archive, target.digest)
    console.clear()
    return len(names)


def _add(zipped: Any, info: ZipInfo, path: Path) -> None:
    """Write a file and the header before it."""
    info.header_offset = zipped.fp.tell()
    zipped.fp.write(info.FileHeader())
    for piece in ahead.filled(list(_pieces(path, info.file_size))):
        zipped.fp.write(piece)
    zipped.filelist.append(info)


def checksums(files: Sequence[Path]) -> list[int]:
    """Return the CRC-32 of each file; long ones are read in parts, side by side."""
    parts = [
        (path, start, min(PART, size - start))
        for path in files
        for size in [path.stat().st_size]
        for start in range(0, size, PART)
    ]
    found = dict.fromkeys(files, 0)
    with ThreadPoolExecutor(ahead.processors()) as pool:
        for (path, _, size), crc in zip(parts, pool.map(_checksum, parts), strict=True):
            found[path] = crc32.joined(found[path], crc, size)
    return list(found.values())


def _checksum(part: tuple[Path, int, int]) -> int:
    path, start, left = part
    crc, room = 0, memoryview(bytearray(PIECE))
    while left and (count := ahead.read(path, start, room[:left])):
        crc, start, left = zlib.crc32(room[:count], crc), start + count, left - count
    return crc


def _pieces(path: Path, size: int) -> Iterator[Job]:
    """Yield what reads a file, piece by piece."""
    for start in range(0, size, PIECE):
        yield Job(min(PIECE, size - start), partial(_read, path, start))


def _read(path: Path, start: int, room: memoryview) -> None:
    if ahead.read(path, start, room) < len(room):
        raise _changed(path)


def _changed(path: Path) -> UserError:
    return UserError(f"{path}: changed while it was read; run again when it is at rest")
