"""A server that speaks the Hugging Face Hub's protocol, with faults on demand.

Large files are Git-LFS files: their URL redirects to a storage host of its own, as on the Hub.
`python -m tests.services.hub FOLDER` serves a folder as the model org/model.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = re.compile(r"[0-9a-f]{40}")
LFS_FROM = 1000


@dataclass
class Repo:
    """A repository: what each branch means, and the files of each commit.

    Attributes:
        gated: the status that files answer without access: 0, 401 or 403.
        token: the one that may read, where it is not public.
    """

    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes | Path]] = field(default_factory=dict)
    gated: int = 0
    token: str = ""


@dataclass
class Fault:
    """What goes wrong when a file is asked for, and how often.

    Attributes:
        status: answer this; the header is sent with it.
        cut: close the connection after so many bytes.
        flip: send one wrong bit.
        gzip: compress the answer and ignore the range.
    """

    times: int = 1
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0
    flip: bool = False
    gzip: bool = False


class Hub:
    """What the server has, and what it was asked."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.faults: dict[str, Fault] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.sent: Counter[str] = Counter()
        self.url = ""
        self.storage = ""

    def put(
        self, name: str, files: dict[str, Any], branch: str = "main", kind: str = "models"
    ) -> str:
        """Add a commit to a branch and return it."""
        content = {
            path: value if isinstance(value, Path) else bytes(value)
            for path, value in files.items()
        }
        described = repr([(path, _digests(value)) for path, value in sorted(content.items())])
        commit = hashlib.sha1(described.encode()).hexdigest()
        repo = self.repos.setdefault(f"{kind}/{name}", Repo())
        repo.commits[commit] = content
        repo.branches[branch] = commit
        return commit

    def requests(self, part: str) -> list[tuple[str, str, dict[str, str]]]:
        """Return what was asked so far with some text in its path."""
        return [entry for entry in self.asked if part in entry[1]]

    def fault(self, name: str) -> Fault | None:
        """Return the next fault of a file, if one is left."""
        found = self.faults.get(name)
        if not found or found.times <= 0:
            return None
        found.times -= 1
        return found


@contextmanager
def running() -> Iterator[Hub]:
    """Serve a hub, and its storage on a port of its own, while the block runs."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.storage = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    for server in servers:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        # A client that takes this server for its proxy says the whole address.
        self.path = re.sub(r"^http://[^/]+", "", self.path)
        path = self.path.partition("?")[0]
        self.hub.asked.append((self.command, self.path, dict(self.headers)))
        if path.startswith("/storage/"):
            self._storage(path.removeprefix("/storage/"))
        elif found := re.fullmatch(
            r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path
        ):
            self._api(*found.groups())
        elif found := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self._resolve(f"{found[1] or 'models/'}{found[2]}", found[3], found[4])
        else:
            self._error(404, "")

    def _repo(self, name: str, revision: str) -> tuple[Repo, str] | None:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.token and not repo.gated and not self._may(repo)):
            self._error(401, "RepoNotFound")
            return None
        commit = repo.branches.get(revision, revision)
        if commit not in repo.commits:
            self._error(404, "RevisionNotFound")
            return None
        return repo, commit

    def _may(self, repo: Repo) -> bool:
        return self.headers.get("Authorization") == f"Bearer {repo.token}"

    def _api(self, kind: str, name: str, what: str | None, revision: str | None) -> None:
        fault = self.hub.fault("api")
        if fault:
            self._error(fault.status, "", fault.headers)
            return
        found = self._repo(f"{kind}/{name}", revision or "main")
        if not found:
            return
        repo, commit = found
        siblings = [_entry(path, value) for path, value in sorted(repo.commits[commit].items())]
        answer: Any = {"id": name, "sha": commit, "siblings": siblings, "gated": False}
        if what == "tree":
            answer = [
                {"type": "file", "path": s["rfilename"], "oid": s["blobId"], **s} for s in siblings
            ]
        self._send(json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        found = self._repo(name, revision)
        if not found:
            return
        repo, commit = found
        if repo.gated and not self._may(repo):
            self._error(repo.gated, "GatedRepo")
            return
        if path not in repo.commits[commit]:
            self._error(404, "EntryNotFound")
            return
        value = repo.commits[commit][path]
        entry = _entry(path, value)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{entry["blobId"]}"'}
        if "lfs" not in entry:
            self._file(path, value, headers)
            return
        headers |= {
            "X-Linked-Size": str(entry["size"]),
            "X-Linked-ETag": f'"{entry["lfs"]["sha256"]}"',
            "Location": f"{self.hub.storage}/storage/{name}/{commit}/{path}?signature=secret",
            "Content-Length": "0",
        }
        self.send_response(302)
        for key, text in headers.items():
            self.send_header(key, text)
        self.end_headers()

    def _storage(self, path: str) -> None:
        if self.headers.get("Authorization"):
            self._error(400, "")  # as S3 does: two ways to sign at once
            return
        kind, owner, name, commit, file = path.split("/", 4)
        self._file(file, self.hub.repos[f"{kind}/{owner}/{name}"].commits[commit][file], {})

    def _file(self, path: str, value: bytes | Path, headers: dict[str, str]) -> None:
        fault = self.hub.fault(path) if self.command == "GET" else None
        if fault and fault.status:
            self._error(fault.status, "", fault.headers)
            return
        size = value.stat().st_size if isinstance(value, Path) else len(value)
        ranged = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first, last = 0, size - 1
        if ranged and not (fault and fault.gzip):
            first, last = int(ranged[1]), int(ranged[2] or size - 1)
            if first >= size:
                self._error(416, "", {"Content-Range": f"bytes */{size}"})
                return
        self.send_response(206 if ranged and not (fault and fault.gzip) else 200)
        if ranged and not (fault and fault.gzip):
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        if isinstance(value, Path):
            self._head(last - first + 1, headers)
            with value.open("rb") as file:
                while self.command == "GET" and first <= last:
                    self.wfile.flush()
                    first += os.sendfile(
                        self.connection.fileno(), file.fileno(), first, last - first + 1
                    )
            return
        content = value[first : last + 1]
        if fault and fault.flip:
            content = bytes([content[0] ^ 1]) + content[1:]
        if fault and fault.gzip:
            content = gzip.compress(content)
            headers = {**headers, "Content-Encoding": "gzip"}
        self._head(len(content), headers)
        if self.command == "GET":
            part = content[: fault.cut] if fault and fault.cut else content
            self.hub.sent[path] += len(part)
            self.wfile.write(part)
            self.close_connection = len(part) < len(content)

    def _head(self, length: int, headers: dict[str, str]) -> None:
        for key, text in {**headers, "Content-Length": str(length)}.items():
            self.send_header(key, text)
        self.end_headers()
        self.wfile.flush()

    def _send(self, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(200)
        self._head(len(content), headers)
        if self.command == "GET":
            self.wfile.write(content)

    def _error(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
        body = b'{"error": "no"}'
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self._head(len(body), headers or {})
        if self.command == "GET":
            self.wfile.write(body)


def _digests(value: bytes | Path) -> tuple[int, str, str]:
    """Return size, sha256 and Git's SHA-1 of a file."""
    size = value.stat().st_size if isinstance(value, Path) else len(value)
    sha256, git = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % size)
    if isinstance(value, bytes):
        sha256.update(value)
        git.update(value)
        return size, sha256.hexdigest(), git.hexdigest()
    known = _known.get(value)
    if known is None:
        with value.open("rb") as file:
            while block := file.read(1 << 20):
                sha256.update(block)
        known = _known[value] = (size, sha256.hexdigest(), "0" * 40)
    return known


_known: dict[Path, tuple[int, str, str]] = {}


def _entry(path: str, value: bytes | Path) -> dict[str, Any]:
    size, sha256, git = _digests(value)
    entry: dict[str, Any] = {"rfilename": path, "size": size, "blobId": git}
    if size >= LFS_FROM:
        entry["lfs"] = {"sha256": sha256, "oid": sha256, "size": size, "pointerSize": 130}
    return entry


if __name__ == "__main__":
    with running() as served:
        folder = Path(sys.argv[1])
        served.put(
            "org/model",
            {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()},
        )
        print(served.url, flush=True)
        threading.Event().wait()
