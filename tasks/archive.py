"""Pack the model into merged.zip.

The files are stored, not deflated: weights hardly shrink, and a stored file can be read in place.
Equal models are equal archives: sorted names, mode 0644, the earliest date that zip knows.

An entry's checksum stands before its content, so the files are read twice: once by all processors
for the checksums, once to be written and hashed at the same time.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import stat
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from .core import console, paths
from .core.engine import digests
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.model import modelfiles
from .core.recipe import Recipe

VERSION = 1

NAME = "merged.zip"
EARLIEST = (1980, 1, 1, 0, 0, 0)
UNIX = 3
PIECE = 1 << 20
# So many pieces may wait to be hashed.
AHEAD = 4


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
    sums = _checksums(files)
    with archive.open("wb", buffering=0) as file, _Hashed(file) as target:
        # Private, but unchanged since Python 3.2: entries that are written by us are listed by it.
        zipped: Any = ZipFile(target, "w", allowZip64=True)  # type: ignore[call-overload]
        for each, path, state, crc in zip(names, files, states, sums, strict=True):
            console.status(f"packing {each}")
            info = entry(f"{name}/{each}", state[2])
            info.CRC, info.compress_size = crc, state[2]
            info.header_offset = zipped.fp.tell()
            zipped.fp.write(info.FileHeader())
            with path.open("rb", buffering=0) as source:
                for piece in target.pieces(source):
                    zipped.fp.write(piece)
            if digests.state_of(path) != state:
                raise UserError(f"{path}: changed while it was read; run again when it is at rest")
            zipped.filelist.append(info)
        zipped.start_dir, zipped._didModify = zipped.fp.tell(), True
        zipped.close()
    digests.remember(archive, target.digest)
    console.clear()
    return len(names)


class _Hashed:
    """A file that is hashed by a thread of its own while it is written; it cannot seek."""

    def __init__(self, file: Any) -> None:
        self._file, self._sha = file, hashlib.sha256()
        self._pool, self._waiting = ThreadPoolExecutor(1), deque[Future[None]]()
        # As many are being hashed as may wait, and one is being filled.
        self._room = itertools.cycle([memoryview(bytearray(PIECE)) for _ in range(AHEAD + 1)])

    def __enter__(self) -> _Hashed:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    @property
    def digest(self) -> str:
        """The digest of all that was written."""
        return f"sha256:{self._sha.hexdigest()}"

    def pieces(self, source: Any) -> Iterator[memoryview]:
        """Yield what is left in a file, to be written here; the same memory serves again."""
        for room in self._room:
            count = source.readinto(room)
            if not count:
                return
            yield room[:count]

    def write(self, data: bytes | memoryview) -> int:
        self._waiting.append(self._pool.submit(self._sha.update, data))
        if len(self._waiting) > AHEAD:
            self._waiting.popleft().result()
        view = memoryview(data)
        while view:
            view = view[self._file.write(view) :]
        return len(data)

    def flush(self) -> None:
        """Do nothing: the file has no buffer."""


def _checksums(files: Sequence[Path]) -> list[int]:
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(_checksum, files))


def _checksum(path: Path) -> int:
    crc, buffer = 0, memoryview(bytearray(digests.BLOCK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            crc = zlib.crc32(buffer[:count], crc)
    return crc
