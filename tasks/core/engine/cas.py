"""What lies in the store, by digest, and whether it can be trusted.

    blobs/ab/<digest>       a file's bytes
    results/<key>.json      the manifest of a result
    lock                    held by all who use the store, alone by who makes room in it (room.py)

A name that begins with a dot is a file that is still coming.
Nothing in here is trusted: a result is there only when its manifest is sound, its paths stay in
the stage's folder and every blob has the digest that its name says.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from .. import console, paths, settings
from ..errors import UserError
from . import digests, manifest
from .manifest import Manifest

LOCK = "lock"
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def folder() -> Path:
    """Return the store's folder."""
    given = settings.current().store
    return paths.inside(Path(given)) if given else paths.build() / ".store"


def blob(digest: str) -> Path:
    """Return where a file's bytes lie."""
    return folder() / blob_name(digest)


def result(key: str) -> Path:
    """Return where a result's manifest lies."""
    return folder() / result_name(key)


def blob_name(digest: str) -> str:
    """Return what a blob is called in a store, here or in a bucket."""
    return f"blobs/{hex_of(digest)[:2]}/{hex_of(digest)}"


def result_name(key: str) -> str:
    """Return what the manifest of a result is called in a store, here or in a bucket."""
    return f"results/{hex_of(key)}.json"


def hex_of(digest: str) -> str:
    """Return a digest's hex digits alone."""
    return digest.removeprefix("sha256:")


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
