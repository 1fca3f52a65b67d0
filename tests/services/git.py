"""A Git server with Git LFS: a small HTTP server before `git http-backend`."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

IDENTITY = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
    "GIT_CONFIG_GLOBAL": os.devnull,
}


def git(folder: Path, *arguments: str) -> str:
    """Run Git in a folder, as nobody in particular."""
    return subprocess.run(
        ["git", "-C", folder, *arguments],
        check=True, capture_output=True, text=True, env={**os.environ, **IDENTITY},
    ).stdout.strip()  # fmt: skip


def repository(folder: Path, files: Mapping[str, bytes]) -> str:
    """Make a repository, or a further commit in it, with *.safetensors in Git LFS."""
    if not (folder / ".git").exists():
        folder.mkdir(parents=True)
        git(folder, "init", "--quiet", "--initial-branch=main")
        git(folder, "lfs", "install", "--local")
        git(folder, "config", "uploadpack.allowAnySHA1InWant", "true")
        git(folder, "lfs", "track", "*.safetensors")
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=x")
    return git(folder, "rev-parse", "HEAD")


@dataclass
class Server:
    """What the server was asked, and what it does wrong: `cut` bytes sent of the next object."""

    url: str = ""
    asked: list[str] = field(default_factory=list)
    sent: int = 0
    cut: int = 0


@contextmanager
def running(root: Path) -> Iterator[Server]:
    """Serve all repositories below a folder while the block runs."""
    state = Server()
    handler = type("Handler", (_Handler,), {"root": root, "state": state})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    root: Path
    state: Server

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self.state.asked.append(self.path)
        if found := re.fullmatch(r"/(.+)/lfs/([0-9a-f]{64})", self.path):
            self._object(self._lfs(found[1], found[2]).read_bytes())
        else:
            self._backend(b"")

    def do_POST(self) -> None:
        self.state.asked.append(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.endswith("/info/lfs/objects/batch"):
            self._batch(self.path.split("/")[1].removesuffix(".git"), json.loads(body))
        else:
            self._backend(body)

    def _lfs(self, name: str, oid: str) -> Path:
        return self.root / name / ".git/lfs/objects" / oid[:2] / oid[2:4] / oid

    def _batch(self, name: str, asked: dict[str, Any]) -> None:
        answer = [
            {**o, "actions": {"download": {"href": f"{self.state.url}/{name}/lfs/{o['oid']}"}}}
            if self._lfs(name, o["oid"]).exists()
            else {**o, "error": {"code": 404, "message": "not here"}}
            for o in asked["objects"]
        ]
        content = json.dumps({"transfer": "basic", "objects": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/vnd.git-lfs+json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _object(self, content: bytes) -> None:
        ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(ranged[1]) if ranged else 0
        self.send_response(206 if ranged else 200)
        if ranged:
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - first))
        self.end_headers()
        part = content[first : first + self.state.cut] if self.state.cut else content[first:]
        self.state.cut = 0
        self.state.sent += len(part)
        self.wfile.write(part)

    def _backend(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        environment = {
            **os.environ,
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, capture_output=True, env=environment
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines() if ": " in line)
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)
