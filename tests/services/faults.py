"""A proxy before a registry or a bucket that breaks what the test tells it to break."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HOP = {"connection", "transfer-encoding", "keep-alive"}


@dataclass
class Fault:
    """What goes wrong with the requests that match.

    Attributes:
        pattern: of `METHOD /path?query`.
        times: for how many of them.
        after: how many of them go well before.
        status: what is answered in the registry's place.
        cut: after how many bytes of the body both connections are cut.
        most: the largest body that passes; a larger one is answered with `status`.
        headers, body: of that answer.
    """

    pattern: str
    times: int = 1
    after: int = 0
    status: int = 0
    cut: int | None = None
    most: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Proxy:
    """A proxy with its faults and the requests that it has seen.

    Attributes:
        host: where it listens.
        seen: `METHOD /path?query status` of each request.
        on_body: called with the bytes of each body that passed so far.
    """

    host: str
    server: ThreadingHTTPServer
    faults: list[Fault]
    seen: list[str]
    on_body: Callable[[int], None] = lambda count: None


@contextlib.contextmanager
def proxy(upstream: str) -> Iterator[Proxy]:
    """Give a proxy before a registry that speaks plain http."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    made = Proxy(f"127.0.0.1:{server.server_address[1]}", server, [], [])
    server.upstream, server.proxy = upstream, made  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_one_request(self) -> None:
        with contextlib.suppress(ConnectionError):
            super().handle_one_request()

    def _pass(self) -> None:
        made: Proxy = self.server.proxy  # type: ignore[attr-defined]
        size = int(self.headers.get("Content-Length") or 0)
        if self.path.startswith("http://"):  # asked as a proxy that a client was told of
            self.path = "/" + self.path.split("/", 3)[3]
        line = f"{self.command} {self.path}"
        fault = self._fault(made, line, size)
        made.seen.append(f"{line} {fault.status if fault else ''}".strip())
        if fault and fault.cut is None:
            self._answer(fault)
            return
        upstream = http.client.HTTPConnection(self.server.upstream)  # type: ignore[attr-defined]
        try:
            upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                upstream.putheader(name, value)
            upstream.endheaders()
            self._body(made, upstream, size, fault.cut if fault else None)
            answer = upstream.getresponse()
            content = answer.read()
        except OSError:
            self._hang_up()
            return
        finally:
            upstream.close()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP | {"content-length"}:
                self.send_header(name, value)
        length = answer.headers.get("Content-Length") if self.command == "HEAD" else len(content)
        self.send_header("Content-Length", str(length or 0))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _pass  # noqa: N815

    def _fault(self, made: Proxy, line: str, size: int) -> Fault | None:
        for fault in made.faults:
            small = fault.most is not None and size <= fault.most
            if fault.times > 0 and re.search(fault.pattern, line) and not small:
                if fault.cut is not None and fault.cut >= size:
                    continue
                if fault.after:
                    fault.after -= 1
                    continue
                fault.times -= 1
                return fault
        return None

    def _body(
        self, made: Proxy, upstream: http.client.HTTPConnection, size: int, cut: int | None
    ) -> None:
        done = 0
        while done < size:
            piece = self.rfile.read1(min(65536, (cut if cut is not None else size) - done))
            if not piece:
                break
            upstream.send(piece)
            done += len(piece)
            made.on_body(done)
            if done == cut:
                raise ConnectionResetError
        if done < size:
            raise ConnectionResetError

    def _answer(self, fault: Fault) -> None:
        """Answer before the body is read, as proxies do."""
        self.send_response_only(fault.status)
        for name, value in fault.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(fault.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(fault.body)
        self.close_connection = True

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""
