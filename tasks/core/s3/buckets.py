"""A bucket on an S3 server, through the `minio` client: MinIO, Ceph, Swift, AWS."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from .. import settings
from ..errors import UserError
from .connection import WORKERS, connect, explained

if TYPE_CHECKING:
    from minio import Minio
    from minio.datatypes import Part

BLOCK = 4 << 20
META = "x-amz-meta-sha256"


@dataclass(frozen=True)
class Listed:
    """An object as a listing tells it."""

    size: int
    etag: str


class Bucket:
    """A bucket on the server of the settings."""

    def __init__(self, name: str, client: Minio | None = None) -> None:
        self.name = name
        self.client = client or connect()

    def listing(self, root: str, make: bool = False) -> dict[str, Listed]:
        """Return the objects below a prefix, by name; one request for a thousand of them.

        Args:
            make: make the bucket if there is none.
        """
        from minio.error import S3Error

        with explained(self.name):
            try:
                return {
                    str(item.object_name): Listed(item.size or 0, (item.etag or "").strip('"'))
                    for item in self.client.list_objects(self.name, root, recursive=True)
                }
            except S3Error as error:
                if error.code != "NoSuchBucket" or not make:
                    raise
        self._make()
        return {}

    def _make(self) -> None:
        from minio.error import S3Error

        with explained(f"{self.name} (a bucket that is not there yet)"):
            try:
                self.client.make_bucket(self.name, settings.current().s3_region)
            except S3Error as error:
                if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise

    def digests(self, names: Sequence[str]) -> dict[str, str]:
        """Return the sha256 that each object has in its metadata, as far as it has one."""
        with explained(self.name), ThreadPoolExecutor(WORKERS) as pool:
            return dict(zip(names, pool.map(self._digest, names), strict=True))

    def _digest(self, name: str) -> str:
        found = self.client.stat_object(self.name, name).metadata or {}
        told = {key.lower(): value for key, value in found.items()}.get(META, "")
        return f"sha256:{told}" if told else ""

    def remove(self, names: Sequence[str]) -> None:
        """Delete objects."""
        from minio.deleteobjects import DeleteObject

        with explained(self.name):
            doomed = [DeleteObject(name) for name in names]
            for error in self.client.remove_objects(self.name, doomed):
                raise UserError(f"{error.name}: not removed from {self.name} ({error.code})")

    def abort_unfinished(self, root: str, age: timedelta = timedelta(days=1)) -> int:
        """Abort uploads in parts that rested long below a prefix; return how many.

        What they hold costs room and is in no listing.  A livelier one may be going on elsewhere.
        """
        from minio.datatypes import ListMultipartUploadsResult
        from minio.error import S3Error

        limit, aborted = datetime.now(timezone.utc) - age, 0
        with explained(self.name), suppress(S3Error):  # not everybody may look for them
            # The client's own call names an empty delimiter, for which Swift lists nothing.
            asked: dict[str, str | list[str] | tuple[str]] = {"uploads": "", "prefix": root}
            answer = self.client._execute("GET", self.name, query_params=asked)
            for each in ListMultipartUploadsResult(answer).uploads:
                name, upload = str(each.object_name), str(each.upload_id)
                if not each.initiated_time or each.initiated_time >= limit:
                    continue
                times = [part.last_modified for part in self.parts(name, upload)]
                if all(time and time < limit for time in times):
                    self.client._abort_multipart_upload(self.name, name, upload)
                    aborted += 1
        return aborted

    def parts(self, name: str, upload: str) -> list[Part]:
        """Return the parts that the server has of an upload."""
        found, marker = [], None
        while True:
            page = self.client._list_parts(self.name, name, upload, part_number_marker=marker)
            found += page.parts
            if not page.is_truncated:
                return found
            marker = str(page.next_part_number_marker)

    def read(self, name: str) -> str:
        """Return the digest of an object's bytes, read back."""
        import hashlib

        sha = hashlib.sha256()
        with explained(self.name):
            response = self.client.get_object(self.name, name)
            try:
                for block in response.stream(BLOCK):
                    sha.update(block)
            finally:
                response.close()
                response.release_conn()
        return f"sha256:{sha.hexdigest()}"
