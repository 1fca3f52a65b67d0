"""What an upload sends, noted beforehand: one that is killed has no `objects.json` to go by.

An object is ours where its own metadata has the sha256 of a file that we were about to send there.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .. import console
from ..engine.journal import Journal
from ..errors import UserError
from . import objects
from .buckets import Bucket
from .connection import explained
from .plan import Local, Parts


def note(journal: Journal, bucket: str, prefix: str, files: Mapping[str, Local]) -> None:
    """Note what is about to be sent, beside what earlier runs have noted for the same place."""
    place = {"endpoint": objects.endpoint(), "bucket": bucket, "prefix": prefix}
    was = journal.read()
    is_there = all(was.get(name) == value for name, value in place.items())
    if was and not is_there:
        left = f"{was['endpoint']}/{was['bucket']}/{was['prefix']}"
        console.say(f"   the objects at {left} stay; unship before they go elsewhere")
    known = was["objects"] if is_there else {}
    sent = {name: sorted({file.digest, *known.get(name, [])}) for name, file in files.items()}
    journal.write({**place, "objects": {**known, **sent}})


def take_away(journal: Journal, scratch: list[Path]) -> list[str]:
    """Remove the objects that were noted, and the parts of files; return a line on each thing.

    Args:
        scratch: the files in which runs that were killed kept their uploads in parts.

    Raises:
        UserError: they are at another server, or it refuses.
    """
    told = journal.read()
    if not told:
        return []
    if server := objects.elsewhere(told):
        raise UserError(
            f"the objects are at {server}; set MODELWRIGHT_S3_ENDPOINT to that and unship, or, if "
            f"that server is no more, delete {journal.path}"
        )
    bucket = Bucket(told["bucket"])
    there = bucket.listing(told["prefix"])
    digests = bucket.digests([name for name in told["objects"] if name in there])
    ours = [name for name, digest in digests.items() if digest in told["objects"][name]]
    bucket.remove(ours)
    aborted = sum(_aborted(bucket, upload) for path in scratch for upload in _uploads(path))
    journal.write({})
    gone = {"objects removed from": len(ours), "unfinished uploads aborted in": aborted}
    return [f"{count} {how} {bucket.name}" for how, count in gone.items() if count]


def _uploads(path: Path) -> list[tuple[str, str]]:
    """Return name and id of each upload in parts that a run began."""
    return [(name, upload) for (name, *_), upload in Parts(path).uploads.items()]


def _aborted(bucket: Bucket, upload: tuple[str, str]) -> bool:
    """Abort an upload; return whether it was still there."""
    from minio.error import S3Error

    with explained(bucket.name):
        try:
            bucket.client._abort_multipart_upload(bucket.name, *upload)
        except S3Error as error:
            if error.code != "NoSuchUpload":
                raise
            return False
    return True
