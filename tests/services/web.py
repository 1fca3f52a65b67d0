"""A web server that answers from a dict: path (with query) -> content, with ranges."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Web:
    """What the server has and what it was asked; `cut` bytes are sent of the next longer answer."""

    url: str = ""
    pages: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    cut: int = 0


@contextmanager
def running() -> Iterator[Web]:
    """Serve while the block runs."""
    web = Web()
    handler = type("Handler", (_Handler,), {"web": web})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    web.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    web: Web

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.web.asked.append((self.path, dict(self.headers)))
        content = self.web.pages.get(self.path)
        ranged = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(ranged[1]) if ranged else 0
        body = b"no" if content is None else content[first:]
        self.send_response(404 if content is None else 206 if ranged else 200)
        self.send_header("Content-Length", str(len(body)))
        if ranged and content is not None:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        cut = self.web.cut if len(body) > self.web.cut else 0
        if cut:
            self.web.cut = 0
        self.wfile.write(body[: cut or None])
