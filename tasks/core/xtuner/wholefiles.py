"""Checkpoints that are whole or not there.

One is written under another name and renamed, and only then may an older one go: what is called
iter_N.pth is whole, and a full disk costs nothing that was saved before.

Part of the programs that run inside the xtuner toolchain.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

NAME = re.compile(r"iter_(\d+)\.pth")
ASIDE = ".part"


def numbered(folder: Path) -> dict[int, Path]:
    """Return a folder's checkpoints by their iterations."""
    return {int(m[1]): p for p in folder.glob("iter_*.pth") if (m := NAME.fullmatch(p.name))}


def dropping_last(save: Callable[..., None]) -> Callable[..., None]:
    """Return CheckpointHook's saving with the old checkpoint removed after the new one is there."""

    def save_then_drop(self: Any, *args: Any, **options: Any) -> None:
        backend, self.file_backend = self.file_backend, Keeping(self.file_backend)
        dropped = self.file_backend.dropped
        try:
            save(self, *args, **options)
        finally:
            self.file_backend = backend
        for path in dropped:
            remove(Path(path))

    return save_then_drop


def dropping_late(begin: Callable[..., None]) -> Callable[..., None]:
    """Return CheckpointHook's start with what a killed training did not come to remove.

    The checkpoint that is gone on from knows which older ones were to stay beside it.
    """

    def begin_then_drop(self: Any, runner: Any) -> None:
        from mmengine.dist import is_main_process

        begin(self, runner)
        kept = list(self.keep_ckpt_ids) if self.max_keep_ckpts > 0 else []
        if kept and not self.by_epoch and is_main_process():
            for number, path in numbered(Path(self.out_dir)).items():
                # Newer ones, saved in the middle of a step, are written again.
                if number < kept[-1] and number not in kept:
                    remove(path)

    return begin_then_drop


class Keeping:
    """mmengine's file backend; what should be removed is noted in `dropped`, not removed."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.dropped: list[str] = []
        self.remove = self.rmtree = self.dropped.append

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)


def put(self: Any, content: bytes, filepath: str | Path) -> None:
    """Write a file of mmengine's under another name, and rename it."""
    path = Path(filepath)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ASIDE)
    with durable(aside) as file:
        file.write(content)
    aside.replace(path)


@contextlib.contextmanager
def durable(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that is on the disk when the block ends, or gone when it fails.

    A disk that became full has room again for the log, which tells of it.
    """
    try:
        with path.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        remove(path)
        raise


class all_ranks:  # noqa: N801  # used like a function
    """Give all ranks one name aside to save under; rank 0 renames it when all are through."""

    def __init__(self, path: Path) -> None:
        self.path, self.aside = path, path.with_name(path.name + ASIDE)

    def __enter__(self) -> Path:
        self._first(lambda: remove(self.aside))
        return self.aside

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is None:
            self._first(self._rename)

    def _rename(self) -> None:
        remove(self.path)
        self.aside.rename(self.path)

    @staticmethod
    def _first(act: Callable[[], None]) -> None:
        """Let rank 0 act when all ranks have come here; all go on when it is done."""
        from torch import distributed

        distributed.barrier()
        if distributed.get_rank() == 0:
            act()
        distributed.barrier()


def remove(path: Path) -> None:
    """Remove a checkpoint, a file or a directory, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
