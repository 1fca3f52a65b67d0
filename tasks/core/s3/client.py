"""The `minio` client, every request signed with the sha256 of what it carries.

By itself it signs no content over TLS, and hashes what was hashed before: the digest of a file that
goes in one piece is known, and a server that is told it refuses bytes that were damaged on the disk
or on the way.
"""

from __future__ import annotations

from typing import Any

from minio import Minio
from minio.helpers import md5sum_hash, sha256_hash

CONTENT = "x-amz-content-sha256"


class Client(Minio):
    """A client that takes the sha256 of a body from the header `CONTENT`, if it is there."""

    def _build_headers(
        self, host: str, headers: Any = None, body: Any = None, creds: Any = None
    ) -> Any:
        told = dict(headers or {})
        digest = told.pop(CONTENT, None) or sha256_hash(body)
        # Of no body there is nothing to hash.
        built, date = super()._build_headers(host, told, None, creds)
        if body:
            built["Content-Length"] = str(len(body))
            if self._base_url.is_https:
                # A bucket with Object Lock at AWS takes nothing without it or `x-amz-checksum-*`,
                # which Ceph, Swift and old MinIO know in part; this one every server has known.
                built.setdefault("Content-MD5", str(md5sum_hash(body)))
        return {**built, CONTENT: digest}, date
