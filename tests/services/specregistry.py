"""A registry to the letter of the distribution spec 1.1: an upload that broke keeps what arrived.

Debian's docker-registry forgets an upload that broke inside a request; others do not.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass
class SpecRegistry:
    """Blobs in memory, whatever the repository."""

    host: str
    blobs: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=itertools.count)


@contextlib.contextmanager
def serve() -> Iterator[SpecRegistry]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    made = SpecRegistry(f"127.0.0.1:{server.server_address[1]}")
    server.registry = made  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def store(self) -> SpecRegistry:
        return self.server.registry  # type: ignore[attr-defined, no-any-return]

    def do_GET(self) -> None:
        path = self.path.rpartition("/")[2]
        if path in self.store.uploads:
            self._progress(204, path)
        elif self.path == "/v2/":
            self._answer(200)
        else:
            content = self.store.blobs.get(path)
            self._answer(404 if content is None else 200, content or b"")

    do_HEAD = do_GET  # noqa: N815

    def do_POST(self) -> None:
        number = f"upload-{next(self.store.numbers)}"
        self.store.uploads[number] = bytearray()
        self._progress(202, number)

    def do_PATCH(self) -> None:
        number = self.path.rpartition("/")[2]
        held = self.store.uploads[number]
        if self.headers["Content-Range"].partition("-")[0] != str(len(held)):
            self._progress(416, number)
            return
        self._take(held)
        self._progress(202, number)

    def do_PUT(self) -> None:
        place = urlsplit(self.path)
        held = self.store.uploads[place.path.rpartition("/")[2]]
        self._take(held)
        (digest,) = parse_qs(place.query)["digest"]
        if f"sha256:{hashlib.sha256(held).hexdigest()}" != digest:
            self._answer(400, b'{"errors": [{"code": "DIGEST_INVALID"}]}')
            return
        self.store.blobs[digest] = bytes(held)
        self._answer(201)

    def _take(self, held: bytearray) -> None:
        left = int(self.headers.get("Content-Length") or 0)
        while left and (piece := self.rfile.read1(min(left, 65536))):
            held += piece
            left -= len(piece)

    def _progress(self, status: int, number: str) -> None:
        end = max(0, len(self.store.uploads[number]) - 1)
        self._answer(
            status, headers={"Location": f"/v2/x/blobs/uploads/{number}", "Range": f"0-{end}"}
        )

    def _answer(
        self, status: int, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> None:
        with contextlib.suppress(ConnectionError):
            self.send_response_only(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""
