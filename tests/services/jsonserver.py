"""A JSON service of a test's own: it remembers what it was asked, and fails as it is told."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

HTML = b"<!DOCTYPE html><html><body>not the API</body></html>"


@dataclass
class Request:
    """What was asked."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any

    @property
    def line(self) -> str:
        """The method and the path."""
        return f"{self.method} {self.path}"


@dataclass
class Reply:
    """What is answered: JSON, or bytes as they are."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Service:
    """What a service keeps; each kind answers in `reply`.

    Attributes:
        url: where it listens.
        asked: every request.
        broken: every answer is a web page, as of a proxy before a service that is down.
    """

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Request] = []
        self.broken = False
        self.lock = threading.RLock()

    def reply(self, request: Request) -> Reply:
        """Return the answer to a request."""
        raise NotImplementedError

    def lines(self, *methods: str) -> list[str]:
        """Return what was asked by some methods."""
        return [request.line for request in self.asked if request.method in methods]

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Serve while the block runs."""
        handler = type("Handler", (_Handler,), {"service": self})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    service: Service

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def _answer(self) -> None:
        parts = urlsplit(self.path)
        content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(
            self.command,
            unquote(parts.path),
            dict(parse_qsl(parts.query)),
            {name.lower(): value for name, value in self.headers.items()},
            json.loads(content) if content else None,
        )
        with self.service.lock:
            self.service.asked.append(request)
        reply = Reply(HTML, 502) if self.service.broken else self.service.reply(request)
        raw = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        kind = "text/html" if isinstance(reply.body, bytes) else "application/json"
        for name, value in {"Content-Type": kind, **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815


class ModelServer(Service):
    """A model's server, by OpenAI's protocol.

    Attributes:
        model: what it calls its one model.
        key: what it wants to be shown, or nothing.
    """

    def __init__(self, model: str, key: str = "") -> None:
        super().__init__()
        self.model, self.key = model, key

    def reply(self, request: Request) -> Reply:
        if request.line != "POST /v1/chat/completions":
            return Reply({"detail": "Not Found"}, 404)
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return Reply({"detail": "Not authenticated"}, 401)
        if request.body["model"] != self.model:
            return Reply({"detail": f"no model {request.body['model']}"}, 400)
        message = {"role": "assistant", "content": "Four."}
        return Reply({"choices": [{"index": 0, "message": message}]})
