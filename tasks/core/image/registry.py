"""A registry, by the distribution spec 1.1: who asks, how it is asked again, what it answers.

Connections, proxies and TLS are httpx's.  Credentials go to the registry and its token server only,
never to where a redirect leads.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any

import httpx

from .. import console
from ..engine import digests
from ..errors import UserError
from . import oci, refusals, transport
from .authorizer import Authorizer
from .reference import HUB, Reference
from .refusals import Refused

Body = Callable[[], Iterable[bytes | memoryview]]

# Seconds before each new try; a registry that restarts is back within that.
PAUSES: tuple[float, ...] = (0.3, 1, 2, 5, 10, 15)
# What passes: time-outs, too many requests, faults of the registry or a proxy before it.
PASSING = frozenset({408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
# Seconds that an answer may take where nobody wants to wait.
QUICK = 5.0
_LONGEST_PAUSE = 60.0
_ACCEPT = ", ".join(
    [
        oci.INDEX,
        oci.MANIFEST,
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ]
)


class Registry:
    """A registry's API; threads may share it.

    Args:
        host: host[:port] as an image's name has it.
        quick: a registry that does not answer is soon given up.
    """

    def __init__(self, host: str, *, quick: bool = False) -> None:
        self.host = host
        self._pauses: tuple[float, ...] = () if quick else PAUSES
        self._api = "registry-1.docker.io" if host == HUB else host
        self._url: httpx.URL | None = None
        self._fault: UserError | None = None
        self._lock = threading.Lock()
        self._client = transport.client(host)
        if quick:
            self._client.timeout = httpx.Timeout(QUICK)
        self._authorizer = Authorizer(host, self._client, self._pauses)

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def digest(self, name: Reference) -> str | None:
        """Return the digest of the manifest that a name stands for now, or None."""
        answer = self.ask("HEAD", name.repository, f"manifests/{name.version}", (200, 404))
        if answer.status_code == 404:
            return None
        found = str(answer.headers.get("Docker-Content-Digest", ""))
        return found if oci.DIGEST.fullmatch(found) else digests.of_bytes(self.manifest(name)[1])

    def manifest(self, name: Reference) -> tuple[oci.Descriptor, bytes]:
        """Return a manifest or index by name, and its descriptor.

        Raises:
            UserError: there is none, or its content has another digest than the name says.
        """
        answer = self.ask("GET", name.repository, f"manifests/{name.version}", (200,))
        digest = digests.of_bytes(answer.content)
        if name.digest not in (None, digest):
            raise UserError(f"{name}: the registry gave other content, {digest}; ask who runs it")
        media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip()
        described = {"mediaType": media_type, "digest": digest, "size": len(answer.content)}
        return described, answer.content

    def put_manifest(
        self, name: Reference, content: bytes, media_type: str = oci.MANIFEST
    ) -> httpx.Response:
        """Store a manifest whose blobs are there, under a tag or its digest."""
        headers = {"Content-Type": media_type, "Content-Length": str(len(content))}
        path = f"manifests/{name.version}"
        for pause in (*self._pauses[:2], None):
            try:
                return self.ask(
                    "PUT", name.repository, path, (200, 201), lambda: [content], headers
                )
            except Refused as error:
                # Docker's registry knows no blob while another push of it is being finished.
                if pause is None or "MANIFEST_BLOB_UNKNOWN" not in error.codes:
                    raise
                time.sleep(pause)
        raise AssertionError("the last pause is None")

    def put_blob(self, repository: str, blob: oci.Descriptor, content: bytes) -> None:
        """Store a small blob unless it is there."""
        if self.blob_size(repository, blob["digest"]) == blob["size"]:
            return
        begun = self.ask("POST", repository, "blobs/uploads/", (202,))
        place = self.url.join(begun.headers["Location"])
        url = str(place.copy_merge_params({"digest": blob["digest"]}))
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(content))}
        self.ask("PUT", repository, url, (201,), lambda: [content], headers)

    def blob_size(self, repository: str, digest: str) -> int | None:
        """Return the size of a blob, or None where the registry does not have it."""
        answer = self.ask("HEAD", repository, f"blobs/{digest}", (200, 404))
        if answer.status_code == 404:
            return None
        return int(answer.headers.get("Content-Length", -1))

    def read_blob(self, repository: str, digest: str, start: int = 0) -> Iterator[bytes]:
        """Yield a blob's bytes from an offset on.

        Raises:
            UserError: the registry does not give it.
            httpx.TransportError: the connection broke; go on from where it did.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        path = f"blobs/{digest}"
        answer = self.ask("GET", repository, path, (200, 206), headers=headers, stream=True)
        try:
            skip = start if answer.status_code == 200 else 0
            for piece in answer.iter_raw(1 << 20):
                if skip < len(piece):
                    yield piece[skip:]
                skip = max(0, skip - len(piece))
        finally:
            answer.close()

    def read_whole(self, repository: str, blob: oci.Descriptor) -> Iterator[bytes]:
        """Yield all of a blob's bytes; a broken connection is taken up where it broke.

        Raises:
            UserError: the registry does not give it, or keeps breaking off.
        """
        done, failures = 0, 0
        while True:
            try:
                for piece in self.read_blob(repository, blob["digest"], done):
                    yield piece
                    done, failures = done + len(piece), 0
                return
            except httpx.TransportError as error:
                if failures == len(self._pauses):
                    raise UserError(refusals.unreachable(self.host, error)) from None
                time.sleep(self._pauses[failures])
                failures += 1

    def ask(
        self,
        method: str,
        repository: str,
        path: str,
        expect: Container[int],
        body: Body | None = None,
        headers: dict[str, str] | None = None,
        *,
        also: str | None = None,
        stream: bool = False,
    ) -> httpx.Response:
        """Return the answer to a request, asked again while what hinders it may pass.

        Args:
            path: below /v2/<repository>/, or a whole URL as Location gave it.
            expect: the statuses that are answers; all others are errors.
            also: a second repository of this registry that must be readable.
            stream: the caller reads the content, and closes the answer.

        Raises:
            UserError: no answer, or another status.
        """
        for pause in (*self._pauses, None):
            try:
                answer = self.once(method, repository, path, body, headers, also, stream)
            except httpx.TransportError as error:
                if pause is None or refusals.is_settled(error):
                    raise UserError(refusals.unreachable(self.host, error)) from None
                time.sleep(pause * random.uniform(0.8, 1.2))
                continue
            if answer.status_code in expect:
                return answer
            if pause is None or answer.status_code not in PASSING:
                raise self.refusal(answer, repository)
            answer.close()
            time.sleep(wait(answer, pause))
        raise AssertionError("the last pause is None")

    def once(
        self,
        method: str,
        repository: str,
        path: str,
        body: Body | None = None,
        headers: dict[str, str] | None = None,
        also: str | None = None,
        stream: bool = False,
    ) -> httpx.Response:
        """Return the answer to one request, with a new token where the old one ran out.

        Raises:
            UserError: the credentials are missing or refused.
            httpx.TransportError: no answer.
        """
        url = self.url.join(path if "://" in path else f"/v2/{repository}/{path}")
        actions = "pull" if method in ("GET", "HEAD") and "/uploads/" not in path else "pull,push"
        scopes = [f"repository:{repository}:{actions}"]
        if also:
            scopes.append(f"repository:{also}:pull")
        for last in (False, True):
            content: Any = body() if body else None
            shown = {"Accept": _ACCEPT, **(headers or {})}
            request = self._client.build_request(method, url, headers=shown, content=content)
            if url.host == self.url.host:
                request.headers.update(self._authorizer.headers(repository, scopes, anew=last))
            reads = method in ("GET", "HEAD")
            answer = self._client.send(request, stream=stream, follow_redirects=reads)
            asked = answer.headers.get("WWW-Authenticate")
            if answer.status_code != 401 or not asked:
                break
            if last:
                raise self.refusal(answer, repository)
            answer.close()
            self._authorizer.hear(asked)
        return answer

    @property
    def url(self) -> httpx.URL:
        """The registry's address: https, or plain http where that is allowed and spoken.

        Raises:
            UserError: it does not answer; once is enough for all threads.
        """
        with self._lock:
            if self._fault:
                raise self._fault
            if self._url is None:
                try:
                    self._url = self._connect()
                except UserError as error:
                    self._fault = error
                    raise
            return self._url

    def refusal(self, answer: httpx.Response, repository: str) -> Refused:
        """Return an answer that is a refusal as an error that says what to do."""
        return refusals.of(answer, self.host, repository)

    def _connect(self) -> httpx.URL:
        """Return the address that answers, and keep what it asks to be shown."""
        plain = transport.may_be_plain(self.host)
        for scheme in ("https", "http") if plain else ("https",):
            url = httpx.URL(f"{scheme}://{self._api}")
            try:
                answer = self._ping(url.join("/v2/"), patient=scheme == "http" or not plain)
            except httpx.TransportError as error:
                if scheme == "https" and plain and "CERTIFICATE_VERIFY" not in str(error):
                    continue
                raise UserError(refusals.unreachable(self.host, error)) from None
            if answer.status_code not in (200, 401):
                raise self.refusal(answer, "")
            self._authorizer.hear(answer.headers.get("WWW-Authenticate"))
            return url
        raise AssertionError("http is the last scheme")

    def _ping(self, url: httpx.URL, *, patient: bool) -> httpx.Response:
        """Make the first contact, and say so where it takes several tries."""
        for number, pause in enumerate((*self._pauses, None), 1):
            try:
                answer = self._client.get(url, timeout=QUICK)
            except httpx.TransportError as error:
                if pause is None or not patient or refusals.is_settled(error):
                    raise
                self._say(f"no answer ({refusals.brief(error)})", number)
                time.sleep(pause)
                continue
            if pause is None or answer.status_code not in PASSING:
                return answer
            self._say(f"answers {answer.status_code}", number)
            time.sleep(wait(answer, pause))
        raise AssertionError("the last pause is None")

    def _say(self, state: str, number: int) -> None:
        console.clear()
        console.say(f"   {self.host}: {state}; trying again ({number} of {len(self._pauses)})")


def wait(answer: httpx.Response, pause: float) -> float:
    """Return the seconds until the next try: what the registry asks for, else our own."""
    told = answer.headers.get("Retry-After", "")
    return min(float(told), _LONGEST_PAUSE) if told.isdigit() else pause
