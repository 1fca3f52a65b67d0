"""Results by key, content-addressed: a result made before is linked into place, not made again.

    blobs/ab/<digest>       a file's bytes, shared by hard link or reflink with the build folder
    results/<key>.json      the manifest of a result
    lock                    held by all who use the store, alone by who makes room in it (room.py)

A name that begins with a dot is a file that is still coming.
Nothing in here is trusted: a result is restored only when its manifest is sound, its paths stay in
the stage's folder and every blob has the digest that its name says.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

from .. import console, paths, settings
from ..errors import UserError
from . import digests, lock, manifest, sending, shared, whole
from .manifest import Manifest

LOCK = "lock"
FICLONE = 0x40049409
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def folder() -> Path:
    """Return the store's folder."""
    given = settings.current().store
    return paths.inside(Path(given)) if given else paths.build() / ".store"


def keep(receipt: Manifest, place: Path) -> bool:
    """Put a finished result into the store; a folder that holds links is not ours to keep."""
    if any((place / file.path).is_symlink() for file in receipt.files):
        return False
    try:
        with lock.among(folder() / LOCK):
            _link_all({blob(file.digest): place / file.path for file in receipt.files})
            whole.write(result(receipt.key), (place / manifest.NAME).read_bytes())
            sending.keep(receipt)
    except OSError as error:
        where = "another file system" if error.errno == errno.EXDEV else error.strerror
        console.say(f"   not kept in the store {folder()}: {where}")
        return False
    return True


def check() -> None:
    """Keep a small file as results are kept, and drop it again.

    Raises:
        OSError: it cannot be kept.
    """
    own, kept = (place / f".check-{os.getpid()}" for place in (paths.build(), folder()))
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
        with lock.among(folder() / LOCK):
            return _restore(stage, model, key)
    except OSError as error:
        console.say(f"   not restored from the store {folder()}: {error.strerror}")
        return None


def _restore(stage: str, model: str, key: str) -> Path | None:
    receipt = look_up(stage, key)
    if receipt is None and shared.fetch(stage, key):
        receipt = look_up(stage, key)
    if receipt is None:
        return None
    # Scratch folders stay, one may hold an unfinished training: this one's until all is there.
    scratch = paths.scratch(model, stage, key)
    whole = scratch.with_name(f"{scratch.name}.restored")
    try:
        shutil.rmtree(whole, ignore_errors=True)
        whole.mkdir(parents=True)
        _link_all({whole / file.path: blob(file.digest) for file in receipt.files})
        manifest.write(replace(receipt, model=model), whole)
        os.utime(result(key))
        shutil.rmtree(scratch, ignore_errors=True)
        whole.rename(scratch)
    except OSError:
        shutil.rmtree(whole, ignore_errors=True)
        raise
    return scratch


def look_up(stage: str, key: str) -> Manifest | None:
    """Return the manifest of a stored result that is whole; a broken one is thrown away."""
    path = result(key)
    receipt = manifest.read(path)
    if receipt is None or receipt.key != key or receipt.stage != stage:
        _throw_away(path)
        return None
    if not is_sound(receipt):
        console.say(f"   {path} names files outside the stage's folder; it is thrown away")
        _throw_away(path)
        return None
    for file in receipt.files:
        held = blob(file.digest)
        if not holds(held, file.size, file.digest):
            _throw_away(held)
            _throw_away(path)
            return None
    return receipt


def _throw_away(path: Path) -> None:
    """Remove what nobody can use; where that cannot be, as in a folder of others, it stays."""
    with contextlib.suppress(OSError):
        path.unlink()


def is_sound(receipt: Manifest) -> bool:
    """Return whether what a manifest names can lead nowhere but to its own files."""
    return all(is_inside(file.path) and DIGEST.fullmatch(file.digest) for file in receipt.files)


def is_inside(path: str) -> bool:
    """Return whether a manifest's path is a plain one below the stage's folder."""
    parts = path.split("/")
    return (
        bool(path)
        and path != manifest.NAME
        and "\0" not in path
        and not {"", ".", ".."} & set(parts)
    )


def holds(path: Path, size: int, digest: str) -> bool:
    """Return whether a blob is what its name says; read only where its state is not known."""
    try:
        if path.is_symlink() or path.stat().st_size != size:
            return False
        try:
            return digests.of_file(path) == digest
        except UserError:  # it got another name while it was read: another build restores it, too
            return digests.read(path) == digest
    except OSError:
        return False


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


def blob(digest: str) -> Path:
    """Return where a file's bytes lie."""
    name = digest.removeprefix("sha256:")
    return folder() / "blobs" / name[:2] / name


def result(key: str) -> Path:
    """Return where a result's manifest lies."""
    return folder() / "results" / f"{key.removeprefix('sha256:')}.json"
