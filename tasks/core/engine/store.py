"""Results by key: a result made before is linked into place, not made again.

The files of a result share their bytes with the blobs of the store, by hard link or reflink.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from dataclasses import replace
from pathlib import Path

from .. import console, paths
from ..errors import UserError
from . import cas, digests, lock, manifest, publish, sending, shared, whole
from .manifest import Manifest

FICLONE = 0x40049409


def keep(receipt: Manifest, place: Path) -> bool:
    """Put a finished result into the store; a folder that holds links is not ours to keep."""
    if any((place / file.path).is_symlink() for file in receipt.files):
        return False
    try:
        with lock.among(cas.folder() / cas.LOCK):
            _link_all({cas.blob(file.digest): place / file.path for file in receipt.files})
            whole.write(cas.result(receipt.key), (place / manifest.NAME).read_bytes())
            sending.keep(receipt)
    except OSError as error:
        where = "another file system" if error.errno == errno.EXDEV else error.strerror
        console.say(f"   not kept in the store {cas.folder()}: {where}")
        return False
    return True


def check() -> None:
    """Keep a small file as results are kept, and drop it again.

    Raises:
        OSError: it cannot be kept.
    """
    own, kept = (place / f".check-{os.getpid()}" for place in (paths.build(), cas.folder()))
    try:
        for path in (own, kept):
            path.parent.mkdir(parents=True, exist_ok=True)
        own.write_bytes(b"kept")
        _link(own, kept)
    finally:
        for path in (own, kept):
            path.unlink(missing_ok=True)


def restore(stage: str, model: str, key: str) -> Path | None:
    """Return a scratch folder with the stored result of a key, ready to be published, if any."""
    try:
        with lock.among(cas.folder() / cas.LOCK):
            return _restore(stage, model, key)
    except OSError as error:
        console.say(f"   not restored from the store {cas.folder()}: {error.strerror}")
        return None


def _restore(stage: str, model: str, key: str) -> Path | None:
    receipt = cas.look_up(stage, key)
    if receipt is None and shared.fetch(stage, key):
        receipt = cas.look_up(stage, key)
    if receipt is None:
        return None
    # Scratch folders stay, one may hold an unfinished training: this one's until all is there.
    scratch = paths.scratch(model, stage, key)
    new = scratch.with_name(f"{scratch.name}.restored")
    try:
        publish.remove(new)
        new.mkdir(parents=True)
        _link_all({new / file.path: cas.blob(file.digest) for file in receipt.files})
        manifest.write(replace(receipt, model=model), new)
        os.utime(cas.result(key))
        publish.remove(scratch)
        new.rename(scratch)
    except OSError:
        with contextlib.suppress(OSError):
            publish.remove(new)
        raise
    return scratch


def _link_all(links: dict[Path, Path]) -> None:
    """Link places to files, and carry their digests over: a new name changes a file's state.

    Args:
        links: the file of each place; several places may be one file.
    """
    before = digests.states(links.values())
    for place, path in links.items():
        place.parent.mkdir(parents=True, exist_ok=True)
        # What lies there is taken for what it was only if it still is.
        if not _is_same(place, before[path][1] if path in before else None):
            place.unlink(missing_ok=True)
            _link(path, place)
    digests.carry(before, links)


def _is_same(place: Path, digest: str | None) -> bool:
    try:
        return digest is not None and digests.of_file(place) == digest
    except (OSError, UserError):
        return False


def _link(path: Path, place: Path) -> None:
    """Share a file's bytes: a reflink where the file system has them, else a hard link."""
    with path.open("rb") as source:
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            fcntl.ioctl(descriptor, FICLONE, source.fileno())
            return
        except OSError:
            place.unlink()
        finally:
            os.close(descriptor)
    os.link(path, place)
