"""A token server for docker-registry: signed with openssl, tokens as short-lived as told."""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

# docker-registry lets a token live this long past its end.
LEEWAY = 60
ISSUER, SERVICE = "a-test", "registry-of-a-test"


@dataclass
class TokenServer:
    """A token server.

    Attributes:
        realm: its address.
        seconds: how long a token is really good.
        told: how long it says that they are.
        given: the scopes of each token.
        users: who asked, by the Authorization header; "" is nobody.
    """

    realm: str
    folder: Path
    seconds: float = 300
    told: int = 300
    given: list[str] = field(default_factory=list)
    users: list[str] = field(default_factory=list)

    def token(self, scopes: list[str]) -> str:
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = time.time()
        claims = {
            "iss": ISSUER, "sub": "alice", "aud": SERVICE, "jti": str(now), "access": access,
            "nbf": int(now - 300), "iat": int(now - 300),
            "exp": int(now + self.seconds - LEEWAY),
        }  # fmt: skip
        lines = (self.folder / "token.pem").read_text().splitlines()
        head = {"typ": "JWT", "alg": "RS256", "x5c": ["".join(lines[1:-1])]}
        signed = b".".join(_encode(json.dumps(part).encode()) for part in (head, claims))
        key = str(self.folder / "token.key")
        command = ["openssl", "dgst", "-sha256", "-sign", key]
        made = subprocess.run(command, input=signed, capture_output=True, check=True)
        return (signed + b"." + _encode(made.stdout)).decode()


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[TokenServer]:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "3", "-subj",
         "/CN=tokens", "-keyout", str(folder / "token.key"), "-out", str(folder / "token.pem")],
        capture_output=True, check=True,
    )  # fmt: skip
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    made = TokenServer(f"http://127.0.0.1:{server.server_address[1]}/token", folder)
    server.tokens = made  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield made
    server.shutdown()
    server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._give(parse_qs(urlsplit(self.path).query), self.headers.get("Authorization", ""))

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        form["scope"] = form["scope"][0].split()
        self._give(form, f"refresh {form['refresh_token'][0]}")

    def _give(self, asked: dict[str, list[str]], user: str) -> None:
        made: TokenServer = self.server.tokens  # type: ignore[attr-defined]
        made.users.append(user)
        made.given.append(" ".join(asked.get("scope", [])))
        wrong = user.startswith("Basic") and b"wrong" in base64.b64decode(user.split()[1])
        answer = {"token": made.token(asked.get("scope", [])), "expires_in": made.told}
        body = b"{}" if wrong else json.dumps(answer).encode()
        self.send_response_only(401 if wrong else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def _encode(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")
