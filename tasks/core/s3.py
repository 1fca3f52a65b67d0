"""Files into an S3 bucket through the `minio` client: in parts, side by side, resumed, verified.

Whatever speaks S3 will do: MinIO, Ceph, Swift, AWS.  Of the client we use the calls for single
parts, because its own `fput_object` begins a broken upload anew and sends one file at a time.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import console, digests, settings
from .errors import UserError

if TYPE_CHECKING:
    from minio import Minio

MIB = 1 << 20
WORKERS = 8
PART = 16 * MIB
# Swift's large objects have this many parts at most, unless its operator changed that.
PARTS = 1000
META = "x-amz-meta-sha256"

CURES = {
    "AccessDenied": "these credentials may not do that; ask for the right, or take others",
    "BadDigest": "bytes were damaged on the way; run it again",
    "EntityTooLarge": "the server takes no object of that size",
    "ExpiredToken": "the credentials have expired; get new ones",
    "InvalidAccessKeyId": "no such access key; look at MODELWRIGHT_S3_ACCESS_KEY",
    "InvalidBucketName": "the server refuses this name of a bucket; choose another",
    "QuotaExceeded": "the quota is used up; free some space there",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it (NTP)",
    "SignatureDoesNotMatch": "a wrong key; look at MODELWRIGHT_S3_ACCESS_KEY and _SECRET_KEY",
    "SlowDown": "the server is busy; try again later",
    "XMinioStorageFull": "the server's disk is full; free some space there",
}


@dataclass(frozen=True)
class Local:
    """A file to send: what it will be called, where it is, what it is."""

    name: str
    path: Path
    size: int
    digest: str


@dataclass(frozen=True)
class Remote:
    """An object as a listing tells it."""

    size: int
    etag: str


@dataclass
class Plan:
    """How one file is sent.

    Attributes:
        upload: the id of a multipart upload; empty for a file that goes in one piece.
        etags: the parts that are there already, by number.
        etag: the whole object's, once it is there.
    """

    file: Local
    state: digests.State
    part: int
    upload: str = ""
    etags: dict[int, str] = field(default_factory=dict)
    etag: str = ""

    @property
    def count(self) -> int:
        """How many parts there are."""
        return max(1, -(-self.file.size // self.part))

    @property
    def missing(self) -> list[int]:
        return [number for number in range(1, self.count + 1) if number not in self.etags]

    def length(self, number: int) -> int:
        return min(self.part, self.file.size - (number - 1) * self.part)


def part_size(size: int) -> int:
    """Return the size of a file's parts: large enough for few requests, whole MiB."""
    return max(PART, -(-size // PARTS // MIB) * MIB + (MIB if size > PART * PARTS else 0))


class Journal:
    """Which parts were sent, so that an interrupted upload goes on; one line each, appended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.uploads: dict[tuple[str, str], str] = {}
        self.parts: dict[str, dict[int, str]] = {}
        self.lock = threading.Lock()
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # cut off by a kill
            if "part" in entry:
                self.parts.setdefault(entry["upload"], {})[entry["part"]] = entry["etag"]
            else:
                self.uploads[entry["object"], entry["digest"]] = entry["upload"]

    def note(self, **entry: Any) -> None:
        with self.lock, self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


class Bucket:
    """A bucket on the server of the settings."""

    def __init__(self, name: str, client: Minio | None = None) -> None:
        self.name = name
        self.client = client or connect()
        self.stopped = threading.Event()
        self.sent = 0

    def listing(self, root: str, make: bool = False) -> dict[str, Remote]:
        """Return the objects below a prefix, by name; one request for a thousand of them.

        Args:
            make: make the bucket if there is none.
        """
        from minio.error import S3Error

        with explained(self.name):
            try:
                return {
                    str(item.object_name): Remote(item.size or 0, (item.etag or "").strip('"'))
                    for item in self.client.list_objects(self.name, root, recursive=True)
                }
            except S3Error as error:
                if error.code != "NoSuchBucket" or not make:
                    raise
        self._make()
        return {}

    def _make(self) -> None:
        from minio.error import S3Error

        with explained(f"{self.name} (a bucket that is not there yet)"):
            try:
                self.client.make_bucket(self.name, settings.current().s3_region)
            except S3Error as error:
                if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise

    def digests(self, names: Sequence[str]) -> dict[str, str]:
        """Return the sha256 that each object has in its metadata, as far as it has one."""
        with explained(self.name), ThreadPoolExecutor(WORKERS) as pool:
            return dict(zip(names, pool.map(self._digest, names), strict=True))

    def _digest(self, name: str) -> str:
        found = self.client.stat_object(self.name, name).metadata or {}
        told = {key.lower(): value for key, value in found.items()}.get(META, "")
        return f"sha256:{told}" if told else ""

    def send(self, files: Sequence[Local], journal: Journal) -> dict[str, str]:
        """Send files, several at once and each in several parts; finished parts stay finished.

        Returns the ETag that the server gave to each.

        Raises:
            UserError: the server refuses, or a file changed while it was read.
        """
        with explained(self.name):
            pool = ThreadPoolExecutor(WORKERS)
            try:
                plans = list(pool.map(lambda file: self._plan(file, journal), files))
                self.total = sum(file.size for file in files)
                jobs = [
                    pool.submit(self._part, plan, number, journal)
                    for plan in sorted(plans, key=lambda plan: -plan.file.size)
                    for number in plan.missing or [0]
                ]
                for job in jobs:
                    job.result()
            finally:
                self.stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)
                console.clear()
        return {plan.file.name: plan.etag for plan in plans}

    def remove(self, names: Sequence[str]) -> None:
        """Delete objects."""
        from minio.deleteobjects import DeleteObject

        with explained(self.name):
            doomed = [DeleteObject(name) for name in names]
            for error in self.client.remove_objects(self.name, doomed):
                raise UserError(f"{error.name}: not removed from {self.name} ({error.code})")

    def read(self, name: str) -> str:
        """Return the digest of an object's bytes, read back."""
        import hashlib

        sha = hashlib.sha256()
        with explained(self.name):
            response = self.client.get_object(self.name, name)
            try:
                for block in response.stream(4 * MIB):
                    sha.update(block)
            finally:
                response.close()
                response.release_conn()
        return f"sha256:{sha.hexdigest()}"

    def _plan(self, file: Local, journal: Journal) -> Plan:
        """Decide on parts; find what an interrupted run left."""
        from minio.error import S3Error

        plan = Plan(file, digests.state_of(file.path), part_size(file.size))
        if file.size <= plan.part:
            return plan
        known = journal.uploads.get((file.name, file.digest))
        if known:
            try:
                there = self._parts(file.name, known)
                sent = journal.parts.get(known, {})
                plan.upload = known
                plan.etags = {n: etag for n, etag in sent.items() if there.get(n) == etag}
                return plan
            except S3Error as error:
                if error.code != "NoSuchUpload":
                    raise
        plan.upload = self.client._create_multipart_upload(self.name, file.name, _headers(file))
        journal.note(object=file.name, digest=file.digest, upload=plan.upload)
        return plan

    def _parts(self, name: str, upload: str) -> dict[int, str]:
        found, marker = {}, None
        while True:
            page = self.client._list_parts(self.name, name, upload, part_number_marker=marker)
            found.update({part.part_number: part.etag for part in page.parts})
            if not page.is_truncated:
                return found
            marker = str(page.next_part_number_marker)

    def _part(self, plan: Plan, number: int, journal: Journal) -> None:
        """Send one part; whoever sends the last one closes the file."""
        if self.stopped.is_set():
            return
        file = plan.file
        if number:
            body = _read(file.path, (number - 1) * plan.part, plan.length(number))
            if not plan.upload:
                self._check(plan)
                done = self.client._put_object(self.name, file.name, body, _headers(file))
                plan.etag = done.etag or ""
            else:
                etag = self.client._upload_part(
                    self.name, file.name, body, None, plan.upload, number
                )
                journal.note(upload=plan.upload, part=number, etag=etag)
                plan.etags[number] = etag
            self._show(len(body))
        with journal.lock:
            last = plan.upload and not plan.missing
            upload, plan.upload = plan.upload, "" if last else plan.upload
        if last:
            self._complete(plan, upload)

    def _complete(self, plan: Plan, upload: str) -> None:
        from minio.datatypes import Part

        self._check(plan)
        parts = [Part(number, etag) for number, etag in sorted(plan.etags.items())]
        done = self.client._complete_multipart_upload(self.name, plan.file.name, upload, parts)
        plan.etag = (done.etag or "").strip('"')

    def _check(self, plan: Plan) -> None:
        if digests.state_of(plan.file.path) != plan.state:
            raise UserError(f"{plan.file.path}: changed while it was sent; run it again at rest")

    def _show(self, count: int) -> None:
        self.sent += count
        console.status(f"{console.size(self.sent)} of {console.size(self.total)} sent")


def connect() -> Minio:
    """Return a client for the server of the settings.

    Raises:
        UserError: endpoint or keys are missing or wrong.
    """
    import certifi
    import urllib3
    from minio import Minio

    found = settings.current()
    address = urlsplit(found.s3_endpoint)
    if address.scheme not in ("http", "https") or not address.netloc or address.path.strip("/"):
        raise UserError(
            f"{found.where('s3_endpoint')}: '{found.s3_endpoint}' should be the address of an S3 "
            "server with its scheme, `https://host[:port]`"
        )
    if not found.s3_access_key or not found.s3_secret_key:
        raise UserError(
            "MODELWRIGHT_S3_ACCESS_KEY and MODELWRIGHT_S3_SECRET_KEY: set both, in the environment "
            "or in .env"
        )
    pool = urllib3.PoolManager(
        maxsize=2 * WORKERS,
        timeout=urllib3.Timeout(connect=10, read=300),
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        retries=urllib3.Retry(total=4, backoff_factor=0.3, status_forcelist=[500, 502, 503, 504]),
    )
    return Minio(
        address.netloc,
        access_key=found.s3_access_key,
        secret_key=found.s3_secret_key,
        session_token=found.s3_session_token or None,
        secure=address.scheme == "https",
        region=found.s3_region,
        http_client=pool,
    )


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn what the client raises into one clear message; keys are never in it."""
    import urllib3
    from minio.error import InvalidResponseError, S3Error, ServerError

    where = settings.current().s3_endpoint
    try:
        yield
    except S3Error as error:
        cure = CURES.get(str(error.code), "look at what the server's operator says about it")
        raise UserError(f"{what} on {where}: {error.code}: {cure}") from None
    except (InvalidResponseError, ServerError) as error:
        status = getattr(error, "_code", None) or getattr(error, "status_code", "an error")
        raise UserError(f"{what} on {where}: the server answers {status}, try later") from None
    except urllib3.exceptions.HTTPError as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(reason, urllib3.exceptions.SSLError):
            raise UserError(
                f"{where}: its certificate is not trusted here; name its CA's file in SSL_CERT_FILE"
            ) from None
        raise UserError(
            f"{where}: no answer ({type(reason).__name__}); is MODELWRIGHT_S3_ENDPOINT right?"
        ) from None


def _headers(file: Local) -> dict[str, Any]:
    return {META: file.digest.removeprefix("sha256:"), "Content-Type": "application/octet-stream"}


def _read(path: Path, start: int, length: int) -> bytes:
    """Return a piece of a file; a file cut off meanwhile is an error, never a short part."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        blocks = []
        while length and (block := os.pread(descriptor, length, start)):
            blocks.append(block)
            start, length = start + len(block), length - len(block)
    finally:
        os.close(descriptor)
    if length:
        raise UserError(f"{path}: ends too early; run it again when it is at rest")
    return blocks[0] if len(blocks) == 1 else b"".join(blocks)


def by_name(files: Sequence[Local]) -> Mapping[str, Local]:
    """Return files by the names of their objects."""
    return {file.name: file for file in files}
