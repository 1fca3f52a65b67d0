"""An S3 server that throws away what it is sent: what a client takes where a server costs nothing.

    python -m tests.bench.sink PORT [SECONDS]

SECONDS pass before each answer to a PUT, as behind a long way or where disks are waited for.
Nothing is verified and no signature looked at.
"""

from __future__ import annotations

import itertools
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

DELAY = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
BLOCK = 1 << 20
DATE = "2026-01-01T00:00:00.000Z"
NUMBERS = itertools.count(1)
NONE: Mapping[str, str] = {}


@dataclass
class Kept:
    """What is left of an object: length, ETag and metadata, and the lengths of its parts."""

    size: int
    etag: str
    metadata: dict[str, str]
    parts: dict[int, int] = field(default_factory=dict)


BUCKETS: dict[str, dict[str, Kept]] = {}
UPLOADS: dict[str, Kept] = {}


class Handler(BaseHTTPRequestHandler):
    """Answers what our client, the `minio` client, s5cmd and rclone ask for an upload."""

    protocol_version = "HTTP/1.1"
    # Else an answer would wait until the one before is acknowledged.
    disable_nagle_algorithm = True

    def handle(self) -> None:
        self.room = memoryview(bytearray(BLOCK))
        super().handle()

    def ask(self) -> None:
        """Split a request into bucket, key and the rest; answer by its method."""
        url = urlsplit(self.path)
        self.query = dict(parse_qsl(url.query, keep_blank_values=True))
        _, bucket, *key = unquote(url.path).split("/", 2)
        self.key = "".join(key)
        self.length = int(self.headers.get("Content-Length", 0))
        if self.command == "PUT" and not self.key:
            BUCKETS.setdefault(bucket, {})
            self.tell()
        elif bucket and bucket not in BUCKETS:
            self.tell("<Error><Code>NoSuchBucket</Code></Error>", 404)
        else:
            self.bucket, self.objects = bucket, BUCKETS.get(bucket, {})
            getattr(self, f"_{self.command.lower()}")()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = ask  # noqa: N815

    def _kept(self) -> Kept:
        metadata = {k: v for k, v in self.headers.items() if k.lower().startswith("x-amz-meta-")}
        return Kept(self.length, f'"{next(NUMBERS):032x}-1"', metadata)

    def _put(self) -> None:
        left = self.length
        while left and (count := self.rfile.readinto(self.room[:left])):
            left -= count
        time.sleep(DELAY)
        kept = self._kept()
        if "partNumber" in self.query:
            UPLOADS[self.query["uploadId"]].parts[int(self.query["partNumber"])] = self.length
        else:
            self.objects[self.key] = kept
        self.tell("", 200, {"ETag": kept.etag})

    def _post(self) -> None:
        body = self.rfile.read(self.length).decode()
        if "uploads" in self.query:
            kept = self._kept()
            UPLOADS[name := kept.etag.strip('"')] = kept
            self.tell(f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></...>")
        elif "uploadId" in self.query:
            kept = self.objects[self.key] = UPLOADS.pop(self.query["uploadId"])
            kept.size = sum(kept.parts.values())
            names = f"<Bucket>{self.bucket}</Bucket><Key>{self.key}</Key><ETag>{kept.etag}</ETag>"
            self.tell(f"<CompleteMultipartUploadResult>{names}</...>")
        else:
            for name in re.findall("<Key>(.*?)</Key>", body):
                del self.objects[name]
            self.tell("<DeleteResult></...>")

    def _delete(self) -> None:
        del BUCKETS[self.bucket]
        self.tell(status=204)

    def _head(self) -> None:
        if kept := self.objects.get(self.key):
            size = {"Content-Length": str(kept.size), "Last-Modified": formatdate(usegmt=True)}
            self.tell("", 200, {"ETag": kept.etag, **size, **kept.metadata})
        else:
            self.tell(status=404 if self.key else 200)

    def _get(self) -> None:
        if not self.bucket:
            row = "<Bucket><Name>{}</Name><CreationDate>{}</CreationDate></Bucket>"
            rows = "".join(row.format(name, DATE) for name in BUCKETS)
            self.tell(f"<ListAllMyBucketsResult><Buckets>{rows}</Buckets></...>")
        elif "location" in self.query:
            self.tell("<LocationConstraint>us-east-1</...>")
        elif "uploads" in self.query:
            self.tell("<ListMultipartUploadsResult></...>")
        else:
            self._list(self.query.get("prefix", ""))

    def _list(self, prefix: str) -> None:
        rows = "".join(
            f"<Contents><Key>{name}</Key><LastModified>{DATE}</LastModified>"
            f"<ETag>{kept.etag}</ETag><Size>{kept.size}</Size></Contents>"
            for name, kept in sorted(self.objects.items())
            if name.startswith(prefix)
        )
        self.tell(f"<ListBucketResult><Name>{self.bucket}</Name>{rows}</...>")

    def tell(self, xml: str = "", status: int = 200, more: Mapping[str, str] = NONE) -> None:
        """Answer; `</...>` closes the outermost element, which is in S3's namespace."""
        outermost = xml[1 : xml.find(">")]
        xml = xml.replace("</...>", f"</{outermost}>")
        opened = f'<{outermost} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        body = xml.replace(f"<{outermost}>", opened, 1).encode()
        self.send_response(status)
        plain = {"Content-Type": "application/xml", "Content-Length": str(len(body))}
        for name, value in {**plain, **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing of each request."""


if __name__ == "__main__":
    with ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler) as server:
        server.serve_forever()
