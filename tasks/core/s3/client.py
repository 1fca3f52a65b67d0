"""The `minio` client, every request signed with the sha256 of what it carries.

By itself it signs no content over TLS, and hashes what was hashed before: the digest of a file that
goes in one piece is known, and a server that is told it refuses bytes that were damaged on the disk
or on the way.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from typing import Any

from minio import Minio

CONTENT = "x-amz-content-sha256"
# What is sent at once has to be through within the time-out of a connection.
PIECE = 1 << 20


def pieces(content: memoryview) -> Any:
    """Return what a request carries in pieces, each of which has the time-out for itself.

    The client, which hands them on, is declared to take bytes alone.
    """
    cut = [content[start : start + PIECE] for start in range(0, len(content), PIECE)]
    return cut or b""


class Client(Minio):
    """A client that takes the sha256 of a body from the header `CONTENT`, if it is there."""

    def _build_headers(
        self, host: str, headers: Any = None, body: Any = None, creds: Any = None
    ) -> Any:
        told = dict(headers or {})
        parts = body if isinstance(body, list) else [body or b""]
        digest = told.pop(CONTENT, None) or _hashed("sha256", parts).hex()
        # Of no body there is nothing to hash.
        built, date = super()._build_headers(host, told, None, creds)
        if body:
            built["Content-Length"] = str(sum(map(len, parts)))
            if self._base_url.is_https:
                # A bucket with Object Lock at AWS takes nothing without it or `x-amz-checksum-*`,
                # which Ceph, Swift and old MinIO know in part; this one every server has known.
                built.setdefault("Content-MD5", base64.b64encode(_hashed("md5", parts)).decode())
        return {**built, CONTENT: digest}, date


def _hashed(kind: str, parts: Sequence[bytes | memoryview]) -> bytes:
    found = hashlib.new(kind, usedforsecurity=False)
    for part in parts:
        found.update(part)
    return found.digest()
