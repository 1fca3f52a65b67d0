"""Bring a blob into a registry (distribution spec 1.1: pushing blobs): mount, upload, resume.

An upload that breaks goes on at the offset that the registry tells.  Where it tells none, as
Debian's docker-registry 2.8 after a cut inside a request, the blob starts again.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase

import httpx

from ..errors import UserError
from . import registry
from .oci import Descriptor
from .refusals import Refused
from .registry import Registry

Pieces = Iterator[bytes | memoryview]
# The blob's bytes from an offset on.
Source = Callable[[int], Pieces]

MIB = 1 << 20
# Below the 100 MB that common proxies let pass.
CHUNK = 64 * MIB
LEAST_CHUNK = MIB // 2

# How registries want big blobs, where it is not in chunks; from KitOps' and oci-modelcar's notes.
ONE_PUT = ("ghcr.io", "*.pkg.dev", "*gcr.io", "*.amazonaws.com", "*.amazonaws.com.cn")
ONE_PATCH = ("*.jfrog.io", "*artifactory*")
_OCTETS = {"Content-Type": "application/octet-stream"}
_RANGE = re.compile(r"(?:bytes=)?0-(\d+)")


class Stopped(Exception):
    """Another blob failed, so this one need not go on."""


@dataclass
class Progress:
    """What all uploads of a push share.

    Attributes:
        stop: set when one of them failed.
        sent: bytes given to the network, those sent again included.
    """

    stop: threading.Event
    sent: int = 0

    def count(self, pieces: Pieces, most: int) -> Pieces:
        """Yield pieces up to a number of bytes."""
        for piece in pieces:
            if self.stop.is_set():
                raise Stopped
            if most <= 0:
                return
            yield piece[:most]
            self.sent += min(len(piece), most)
            most -= len(piece)


@dataclass
class Session:
    """An upload under way: where it goes on, how far it is, and in what steps."""

    location: str
    offset: int
    chunk: int


def mount(there: Registry, repository: str, digest: str, other: str) -> bool:
    """Have a blob of another repository of the same registry in this one; return whether it is."""
    path = f"blobs/uploads/?mount={digest}&from={other}"
    try:
        answer = there.ask("POST", repository, path, (201, 202), also=other)
    except UserError:
        return False  # not every registry mounts, or lets us; then the blob is sent
    if answer.status_code == 202:
        _cancel(there, repository, answer.headers.get("Location", ""))
    return answer.status_code == 201


def send(
    there: Registry, repository: str, blob: Descriptor, source: Source, progress: Progress
) -> None:
    """Upload a blob; a broken connection or a passing fault of the registry is overcome.

    Raises:
        UserError: the registry refuses it, or fails for good.
        Stopped: the whole push was given up.
    """
    session, furthest, failures = None, 0, 0
    while True:
        try:
            session = session or _start(there, repository, blob["size"])
            _advance(there, repository, blob, source, progress, session)
            return
        except (httpx.TransportError, Refused) as error:
            offset = session.offset if session else 0
            failures = 1 if offset > furthest else failures + 1
            furthest = max(furthest, offset)
            pause = _pause(error, failures, session)
            if pause is None:
                raise _final(there, error) from None
            if progress.stop.wait(pause):
                raise Stopped from None
        if there.blob_size(repository, blob["digest"]) == blob["size"]:
            return  # the last answer was lost, not the upload
        session = session and _resume(there, repository, session)


def _start(there: Registry, repository: str, size: int) -> Session:
    answer = there.ask("POST", repository, "blobs/uploads/", (202,))
    least = answer.headers.get("OCI-Chunk-Min-Length", "0")
    chunk = max(CHUNK, int(least) if least.isdigit() else 0)
    if _is_like(there.host, ONE_PATCH) or _is_like(there.host, ONE_PUT):
        chunk = max(size, 1)
    return Session(_location(there, answer), 0, chunk)


def _advance(
    there: Registry,
    repository: str,
    blob: Descriptor,
    source: Source,
    progress: Progress,
    session: Session,
) -> None:
    """Send what is missing and finish; the session tells how far it came if this fails."""
    size, finish = blob["size"], {"digest": blob["digest"]}
    if session.offset == 0 and size <= session.chunk and not _is_like(there.host, ONE_PATCH):
        body, headers = _body(source, 0, size, progress)
        url = str(httpx.URL(session.location).copy_merge_params(finish))
        _expect(there, repository, (201,), "PUT", url, body, headers)
        return
    while session.offset < size:
        count = min(session.chunk, size - session.offset)
        body, headers = _body(source, session.offset, count, progress)
        headers["Content-Range"] = f"{session.offset}-{session.offset + count - 1}"
        statuses = (200, 201, 202, 204)
        answer = _expect(there, repository, statuses, "PATCH", session.location, body, headers)
        told = _RANGE.fullmatch(answer.headers.get("Range", ""))
        session.offset = int(told[1]) + 1 if told else session.offset + count
        session.location = _location(there, answer) or session.location
    url = str(httpx.URL(session.location).copy_merge_params(finish))
    _expect(there, repository, (201, 204), "PUT", url, None, {**_OCTETS, "Content-Length": "0"})


def _body(
    source: Source, start: int, count: int, progress: Progress
) -> tuple[registry.Body, dict[str, str]]:
    def pieces() -> Pieces:
        return progress.count(source(start), count)

    return pieces, {**_OCTETS, "Content-Length": str(count)}


def _expect(
    there: Registry,
    repository: str,
    statuses: tuple[int, ...],
    method: str,
    url: str,
    body: registry.Body | None,
    headers: dict[str, str],
) -> httpx.Response:
    answer = there.once(method, repository, url, body, headers)
    if answer.status_code not in statuses:
        refusal = there.refusal(answer, repository)
        refusal.pause = registry.wait(answer, 0)
        raise refusal
    return answer


def _pause(error: Exception, failures: int, session: Session | None) -> float | None:
    """Return the seconds before the next try, or None where there should be none."""
    if failures > len(registry.PAUSES):
        return None
    usual = registry.PAUSES[failures - 1]
    if not isinstance(error, Refused):
        return usual
    if session is None:
        return None  # `ask` tried again already
    if error.status == 413 and session.chunk > LEAST_CHUNK:
        session.chunk = max(session.chunk // 4, LEAST_CHUNK)
        return 0
    if error.status in registry.PASSING:
        return max(usual, error.pause)
    # The registry lost the upload, or counts otherwise than we do; a second time it is no accident.
    return usual if error.status in (404, 416) or (failures > 1 and error.status == 400) else None


def _resume(there: Registry, repository: str, session: Session) -> Session | None:
    """Return a session at the registry's offset, or None where it has to start again."""
    try:
        answer = there.ask("GET", repository, session.location, (204, 202, 200))
    except UserError:
        return None
    told = _RANGE.fullmatch(answer.headers.get("Range", ""))
    location = _location(there, answer) or session.location
    # `0-0` is one byte or none; registries mean none.
    offset = int(told[1]) + 1 if told and told[1] != "0" else 0
    return Session(location, offset, session.chunk)


def _final(there: Registry, error: Exception) -> UserError:
    if isinstance(error, UserError):
        return error
    reason = str(error) or type(error).__name__
    return UserError(f"{there.host}: the connection keeps breaking ({reason}); run doit again")


def _cancel(there: Registry, repository: str, location: str) -> None:
    try:
        there.once("DELETE", repository, str(there.url.join(location)))
    except (UserError, httpx.HTTPError):
        return  # registries forget uploads that nobody ends


def _location(there: Registry, answer: httpx.Response) -> str:
    location = answer.headers.get("Location", "")
    if not location:
        return ""
    url = there.url.join(location)
    # Registries behind a proxy that ends TLS may name themselves without; a token stays inside.
    is_weaker = url.scheme == "http" and there.url.scheme == "https"
    return str(url.copy_with(scheme="https") if is_weaker and url.host == there.url.host else url)


def _is_like(host: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(host.partition(":")[0].lower(), pattern) for pattern in patterns)
