"""Results by key, content-addressed: a result made before is linked into place, not made again.

    blobs/ab/<digest>       a file's bytes, shared by hard link or reflink with the build folder
    results/<key>.json      the manifest of a result

Nothing in here is trusted: a result is restored only when its manifest is sound, its paths stay in
the stage's folder and every blob has the digest that its name says.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

from .. import console, paths, settings
from ..errors import UserError
from . import digests, manifest, shared
from .manifest import Manifest

FICLONE = 0x40049409
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}


def folder() -> Path:
    """Return the store's folder."""
    given = settings.current().store
    return paths.inside(Path(given)) if given else paths.build() / ".store"


def keep(receipt: Manifest, place: Path) -> None:
    """Put a published result into the store; a folder that holds links is not ours to keep."""
    if any((place / file.path).is_symlink() for file in receipt.files):
        return
    try:
        _link_all({blob(file.digest): place / file.path for file in receipt.files})
        write(result(receipt.key), (place / manifest.NAME).read_bytes())
    except OSError as error:
        where = "another file system" if error.errno == errno.EXDEV else error.strerror
        console.say(f"   not kept in the store {folder()}: {where}")
        return
    shared.keep(receipt)
    collect(limit())


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
    except OSError as error:
        console.say(f"   not restored from the store {folder()}: {error.strerror}")
        shutil.rmtree(whole, ignore_errors=True)
        return None
    return scratch


def look_up(stage: str, key: str) -> Manifest | None:
    """Return the manifest of a stored result that is whole; a broken one is thrown away."""
    path = result(key)
    receipt = manifest.read(path)
    if receipt is None or receipt.key != key or receipt.stage != stage:
        path.unlink(missing_ok=True)
        return None
    if not is_sound(receipt):
        console.say(f"   {path} names files outside the stage's folder; it is thrown away")
        path.unlink()
        return None
    for file in receipt.files:
        held = blob(file.digest)
        if not holds(held, file.size, file.digest):
            held.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            return None
    return receipt


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


def limit() -> int:
    """Return how many bytes the store may take that nothing else shares."""
    text = settings.current().store_limit
    number, unit = text[:-2], text[-2:]
    if unit not in UNITS or not number.isdigit():
        where = settings.current().where("store_limit")
        raise UserError(f"{where}: '{text}' is no size; write it like 200GB")
    return int(number) * UNITS[unit]


def collect(most: int) -> int:
    """Drop the results that were used longest ago until the store takes `most` bytes at most.

    Returns:
        The bytes that were freed.  A blob that a build folder shares takes no room of its own.
    """
    used, blobs = 0, folder() / "blobs"
    results = sorted((folder() / "results").glob("*.json"), key=lambda p: -p.stat().st_mtime_ns)
    kept: set[str] = set()
    for path in results:
        receipt = manifest.read(path)
        names = {file.digest for file in receipt.files} if receipt else set()
        cost = sum(map(_cost, names - kept))
        if receipt is None or used + cost > most:
            path.unlink(missing_ok=True)
            continue
        used += cost
        kept |= names
    freed = 0
    for path in blobs.glob("??/*"):
        if f"sha256:{path.name}" not in kept:
            freed += path.stat().st_size if path.stat().st_nlink == 1 else 0
            path.unlink(missing_ok=True)
    return freed


def _cost(digest: str) -> int:
    try:
        stat = blob(digest).stat()
    except OSError:
        return 0
    return stat.st_size if stat.st_nlink == 1 else 0


def holds(path: Path, size: int, digest: str) -> bool:
    """Return whether a blob is what its name says; read only where its state is not known."""
    try:
        if path.is_symlink() or path.stat().st_size != size:
            return False
        return digests.of_file(path) == digest
    except (OSError, UserError):
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


def write(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_bytes(content)
    new.replace(path)


def blob(digest: str) -> Path:
    """Return where a file's bytes lie."""
    name = digest.removeprefix("sha256:")
    return folder() / "blobs" / name[:2] / name


def result(key: str) -> Path:
    """Return where a result's manifest lies."""
    return folder() / "results" / f"{key.removeprefix('sha256:')}.json"
