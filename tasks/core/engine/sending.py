"""Results to the store that a team shares: at once or, after an outage, with a later one.

What could not be sent is noted in build/.unsent/PLACE.  PLACE is of the store's endpoint, bucket
and prefix: what was meant for one store is never sent to another.

    KEY.STAGE.MODEL          the note on a result, empty
    .KEY.STAGE.MODEL.parts   the parts of its large files that are there: they are not sent again
    .lock                    held by the one build that sends what is noted
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import console, paths, settings
from ..errors import UserError
from . import cas, contact, lock, manifest
from .manifest import Manifest

if TYPE_CHECKING:
    from ..s3.buckets import Bucket

# Whether this build has looked for what others gave up: once is enough.
_is_tidy = False


@dataclass(frozen=True)
class Target:
    """Where results go.

    Attributes:
        there: the names of the blobs that it has; grows with what is sent.
    """

    bucket: Bucket
    prefix: str
    there: set[str]


def keep(receipt: Manifest) -> None:
    """Send a result that the local store has and, if that works, what could not be sent before."""
    address = contact.address()
    if not address:
        return
    notes = folder(*address)
    notes.mkdir(parents=True, exist_ok=True)
    note = notes / f"{cas.hex_of(receipt.key)}.{receipt.stage}.{receipt.model}"
    if not contact.answers():
        note.touch()
        return
    try:
        target = _open(*address)
        _send(target, receipt, note)
    except (UserError, OSError) as error:
        note.touch()
        _tell(note, error)
        return
    _tidy(target)
    _send_noted(target, notes)


def folder(bucket: str, prefix: str) -> Path:
    """Return the folder of the notes for a shared store."""
    place = [settings.current().s3_endpoint.rstrip("/"), bucket, prefix]
    return paths.build() / ".unsent" / paths.short(manifest.digest_of(place))


def _open(bucket_name: str, prefix: str) -> Target:
    from ..s3.buckets import Bucket

    bucket = Bucket(bucket_name)
    return Target(bucket, prefix, set(bucket.listing(f"{prefix}blobs/", make=True)))


def _send_noted(target: Target, notes: Path) -> None:
    """Send what could not be sent before, unless another build does; each may fail alone."""
    with lock.alone(notes / ".lock") as ours:
        for note in sorted(notes.glob("[!.]*")) if ours else ():
            if not contact.answers():
                return
            try:
                _send_again(target, note)
            except (UserError, OSError) as error:
                _tell(note, error)


def _tidy(target: Target) -> None:
    """Abort what was given up long ago, by whomever: it takes room and is in no listing."""
    global _is_tidy
    if _is_tidy:
        return
    _is_tidy = True
    try:
        aborted = target.bucket.abort_unfinished(f"{target.prefix}blobs/")
    except (UserError, OSError) as error:
        contact.tell("not looked for unfinished uploads in the shared store", error)
        return
    if aborted:
        console.say(f"   {aborted} uploads of long ago, never finished, are taken away")


def _send_again(target: Target, note: Path) -> None:
    key, stage, _ = note.name.split(".", 2)
    receipt = cas.look_up(stage, f"sha256:{key}")
    if receipt:
        _send(target, receipt, note)
    else:
        console.say(f"   never sent to the shared store: {_task(note)}: the local store lost it")
        _forget(note)


def _send(target: Target, receipt: Manifest, note: Path) -> None:
    """Send what a bucket lacks of a result; its manifest goes last."""
    from ..s3.plan import Local, Parts
    from ..s3.uploading import Sender

    missing = {
        name: Local(name, cas.blob(file.digest), file.size, file.digest)
        for file in receipt.files
        if (name := f"{target.prefix}{cas.blob_name(file.digest)}") not in target.there
    }
    Sender(target.bucket, Parts(_parts(note))).send(list(missing.values()))
    target.there.update(missing)
    content = cas.result(receipt.key).read_bytes()
    _put(target.bucket, f"{target.prefix}{cas.result_name(receipt.key)}", content)
    _forget(note)


def _put(bucket: Bucket, name: str, content: bytes) -> None:
    from ..s3.connection import explained

    with explained(bucket.name):
        bucket.client.put_object(bucket.name, name, io.BytesIO(content), len(content))


def _parts(note: Path) -> Path:
    return note.with_name(f".{note.name}.parts")


def _forget(note: Path) -> None:
    note.unlink(missing_ok=True)
    _parts(note).unlink(missing_ok=True)


def _tell(note: Path, error: UserError | OSError) -> None:
    contact.tell(f"not yet kept in the shared store: {_task(note)}", error)


def _task(note: Path) -> str:
    """Return the name of the task whose result a note is on."""
    _, stage, model = note.name.split(".", 2)
    return f"{stage}:{model}"
