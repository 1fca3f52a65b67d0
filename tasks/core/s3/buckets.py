"""A bucket on an S3 server, through the `minio` client: MinIO, Ceph, Swift, AWS."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from .. import settings
from ..errors import UserError

if TYPE_CHECKING:
    from minio import Minio

WORKERS = 8
BLOCK = 4 << 20
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
class Remote:
    """An object as a listing tells it."""

    size: int
    etag: str


class Bucket:
    """A bucket on the server of the settings."""

    def __init__(self, name: str, client: Minio | None = None) -> None:
        self.name = name
        self.client = client or connect()

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
                for block in response.stream(BLOCK):
                    sha.update(block)
            finally:
                response.close()
                response.release_conn()
        return f"sha256:{sha.hexdigest()}"


def connect() -> Minio:
    """Return a client for the server of the settings.

    Raises:
        UserError: endpoint or keys are missing or wrong.
    """
    import certifi
    import urllib3
    from minio import Minio

    found = settings.current()
    address = _address(found.s3_endpoint, found.where("s3_endpoint"))
    if not found.s3_access_key or not found.s3_secret_key:
        raise UserError(
            "MODELWRIGHT_S3_ACCESS_KEY and MODELWRIGHT_S3_SECRET_KEY: set both, in the environment "
            "or in .env"
        )
    proxy = None if proxy_bypass(address.netloc) else getproxies().get(address.scheme)
    manager = partial(urllib3.ProxyManager, proxy) if proxy else urllib3.PoolManager
    pool = manager(
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


def _address(endpoint: str, where: str) -> SplitResult:
    """Return the parts of a server's address.

    Raises:
        UserError: it is none, or holds a password; the address is not told then.
    """
    if "@" in endpoint:
        raise UserError(
            f"{where}: take user and password out of the address; the keys are "
            "MODELWRIGHT_S3_ACCESS_KEY and MODELWRIGHT_S3_SECRET_KEY"
        )
    with suppress(ValueError):
        parts = urlsplit(endpoint)
        is_sound = parts.port != 0 and parts.hostname and not parts.path.strip("/")
        if is_sound and parts.scheme in ("http", "https"):
            return parts
    raise UserError(
        f"{where}: '{endpoint}' should be the address of an S3 server with its scheme, "
        "`https://host[:port]`"
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
