"""A store that a team shares: results by key in an S3 bucket, laid out as the local store.

It is asked when the local store has no result, and told of every new one (sending.py).  It is a
convenience: whatever is wrong with it is said, and the build goes on without it.  Nothing from it
is trusted; a blob gets its place in the local store only once its bytes have the digest of its
name.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from . import cas, contact, digests, manifest, whole
from .manifest import File, Manifest

if TYPE_CHECKING:
    from ..s3.buckets import Bucket

LARGEST_MANIFEST = 64 << 20


def fetch(stage: str, key: str) -> bool:
    """Bring a result into the local store; return whether it is there now, whole."""
    found = contact.address()
    if not found or not contact.answers():
        return False
    bucket_name, prefix = found
    try:
        from ..s3.buckets import Bucket

        bucket = Bucket(bucket_name)
        content = _get(bucket, f"{prefix}{cas.result_name(key)}")
        if content is None:
            return False
        with whole.coming(cas.result(key)) as new:
            new.write_bytes(content)
            _bring(bucket, prefix, _read(new, stage, key))
    except (UserError, OSError) as error:
        contact.tell("not restored from the shared store", error)
        return False
    return True


def _read(path: Path, stage: str, key: str) -> Manifest:
    """Return the manifest that came for a result.

    Raises:
        UserError: it is none, of another result, or leads out of the stage's folder.
    """
    receipt = manifest.read(path)
    if receipt is None or receipt.key != key or receipt.stage != stage:
        raise UserError("its manifest is broken, or of another result")
    if not cas.is_sound(receipt):
        raise UserError("its manifest names files outside the stage's folder")
    return receipt


def _bring(bucket: Bucket, prefix: str, receipt: Manifest) -> None:
    """Fetch the blobs that the local store lacks, side by side; those that are whole stay."""
    from concurrent.futures import ThreadPoolExecutor

    from ..s3.connection import WORKERS

    wanted = {
        file.digest: file
        for file in receipt.files
        if not cas.holds(cas.blob(file.digest), file.size, file.digest)
    }
    with ThreadPoolExecutor(WORKERS) as pool:
        jobs = [pool.submit(_fetch, bucket, prefix, file) for file in wanted.values()]
        for job in jobs:
            job.result()


def _fetch(bucket: Bucket, prefix: str, file: File) -> None:
    """Fetch one blob, hashed as it comes.

    Raises:
        UserError: its bytes are not those of its name.
    """
    from ..s3.buckets import BLOCK
    from ..s3.connection import explained

    name = f"{prefix}{cas.blob_name(file.digest)}"
    place, sha = cas.blob(file.digest), hashlib.sha256()
    with whole.coming(place) as new:
        with explained(bucket.name), new.open("wb") as out:
            response = bucket.client.get_object(bucket.name, name)
            try:
                for block in response.stream(BLOCK):
                    sha.update(block)
                    out.write(block)
            finally:
                response.close()
                response.release_conn()
        if f"sha256:{sha.hexdigest()}" != file.digest:
            raise UserError(f"{name}: its bytes are not those of its name")
    digests.remember(place, file.digest)


def _get(bucket: Bucket, name: str) -> bytes | None:
    """Return a small object, or None where there is none."""
    from minio.error import S3Error

    from ..s3.connection import explained

    with explained(bucket.name):
        try:
            response = bucket.client.get_object(bucket.name, name)
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchBucket"):
                return None
            raise
        try:
            return bytes(response.read(LARGEST_MANIFEST))
        finally:
            response.close()
            response.release_conn()
