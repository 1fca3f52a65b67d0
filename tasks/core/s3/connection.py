"""The S3 server of the settings: the client for it, and what its refusals mean."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from .. import settings
from ..errors import UserError

if TYPE_CHECKING:
    import urllib3
    from minio import Minio
    from minio.error import S3Error

# Requests under way at a time.
WORKERS = 8
# Seconds that an answer may take where nobody wants to wait.
QUICK = 5.0
# Characters of what a server says that fit a message.
_MOST = 300

# Answers that are no S3 server's, and what others mean without a word of S3's in them.
_NO_S3 = frozenset({200, 204, 301, 302, 303, 307, 308, 400, 404, 405, 501})
_REFUSALS = {
    401: "who stands before it asks for a password of its own; look at the proxies",
    403: "who stands before it lets nobody through; look at the proxies",
    407: "the proxy asks for a password; put it into http_proxy or https_proxy",
    413: "a proxy before it takes no request of that size; have its limit raised",
    429: "too many requests, try later",
}


class NoAnswer(UserError):
    """Nobody there deals with us, however often we ask."""


CURES = {
    "AccessDenied": "these credentials may not do that; ask for the right, or take others",
    "BadDigest": "bytes were damaged, on the way or on this disk; run it again",
    "EntityTooLarge": "the server takes no object of that size",
    "ExpiredToken": "the credentials have expired; get new ones",
    "InvalidAccessKeyId": "no such access key; look at MODELWRIGHT_S3_ACCESS_KEY",
    "InvalidBucketName": "the server refuses this name of a bucket; choose another",
    "NoSuchUpload": "somebody aborted this upload meanwhile; run it again",
    "QuotaExceeded": "the quota is used up; free some space there",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it (NTP)",
    "SignatureDoesNotMatch": "a wrong key; look at MODELWRIGHT_S3_ACCESS_KEY and _SECRET_KEY",
    "SlowDown": "the server is busy; try again later",
    "XAmzContentSHA256Mismatch": "bytes were damaged, on the way or on this disk; run it again",
    "XMinioStorageFull": "the server's disk is full; free some space there",
}


def connect(*, quick: bool = False) -> Minio:
    """Return a client for the server of the settings.

    Args:
        quick: a server that does not answer is given up at once; a busy one is asked again, for
            as long as suits us, not it.

    Raises:
        UserError: endpoint, keys or a proxy's variable are missing or wrong.
    """
    import certifi
    import urllib3

    from .client import Client

    found = settings.current()
    address = _address(found.s3_endpoint, found.where("s3_endpoint"))
    if not found.s3_access_key or not found.s3_secret_key:
        raise UserError(
            "MODELWRIGHT_S3_ACCESS_KEY and MODELWRIGHT_S3_SECRET_KEY: set both, in the environment "
            "or in .env"
        )
    silent = 0 if quick else None
    proxy = None if proxy_bypass(address.netloc) else getproxies().get(address.scheme)
    pool = (_through(proxy) if proxy else urllib3.PoolManager)(
        maxsize=2 * WORKERS,
        timeout=urllib3.Timeout(QUICK) if quick else urllib3.Timeout(connect=10, read=300),
        cert_reqs="CERT_REQUIRED",
        ca_certs=os.environ.get("SSL_CERT_FILE") or certifi.where(),
        retries=urllib3.Retry(
            total=4,
            connect=silent,
            read=silent,
            other=silent,
            status=3 if quick else None,
            respect_retry_after_header=not quick,
            backoff_factor=0.3,
            status_forcelist=[500, 502, 503, 504],
        ),
    )
    return Client(
        address.netloc,
        access_key=found.s3_access_key,
        secret_key=found.s3_secret_key,
        session_token=found.s3_session_token or None,
        secure=address.scheme == "https",
        region=found.s3_region,
        http_client=pool,
    )


def _through(proxy: str) -> Callable[..., urllib3.PoolManager]:
    """Return what makes a pool of connections that asks a proxy, and shows it its password.

    Raises:
        UserError: the address is not that of an http proxy.
    """
    import urllib3

    try:
        parts = urllib3.util.parse_url(proxy if "://" in proxy else f"http://{proxy}")
        shown = urllib3.make_headers(proxy_basic_auth=unquote(parts.auth)) if parts.auth else None
        if parts.host and parts.scheme in ("http", "https"):
            return partial(urllib3.ProxyManager, parts.url, proxy_headers=shown)
    except ValueError:
        pass
    raise UserError("http_proxy or https_proxy: not the address of an http proxy; correct it")


def _address(endpoint: str, where: str) -> SplitResult:
    """Return the parts of a server's address.

    Raises:
        UserError: it is none.
    """
    if not endpoint:
        raise UserError(
            "MODELWRIGHT_S3_ENDPOINT is not set; say which S3 server, `https://host[:port]`, in "
            "the environment or as `s3_endpoint:` in settings.yaml"
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
    from xml.etree import ElementTree

    import urllib3
    from minio.error import InvalidResponseError, S3Error, ServerError

    where = settings.current().s3_endpoint
    try:
        yield
    except S3Error as error:
        if cure := CURES.get(str(error.code)):
            raise UserError(f"{what} on {where}: {error.code}: {cure}") from None
        raise UserError(
            f"{what} on {where}: {error.code}: {_said(error)}; look at what the server's operator "
            "says about it"
        ) from None
    except ElementTree.ParseError:
        raise UserError(
            f"{where}: answers, but not as an S3 server; is MODELWRIGHT_S3_ENDPOINT right?"
        ) from None
    except (InvalidResponseError, ServerError) as error:
        status = int(getattr(error, "_code", 0) or getattr(error, "status_code", 0))
        if status in _NO_S3:
            raise UserError(
                f"{what} on {where}: the server answers {status}; is that an S3 server's address?"
            ) from None
        cure = _REFUSALS.get(status, "try later")
        raise UserError(f"{what} on {where}: the server answers {status}; {cure}") from None
    except urllib3.exceptions.HTTPError as error:
        raise _unanswered(error, where) from None


def _unanswered(error: urllib3.exceptions.HTTPError, where: str) -> UserError:
    """Return what to say of a request that got no answer, or not all of it."""
    from urllib3.exceptions import ProtocolError, ResponseError, SSLError

    reason = getattr(error, "reason", None) or error
    if "WRONG_VERSION_NUMBER" in str(reason):
        return NoAnswer(
            f"{where}: does not speak TLS; should MODELWRIGHT_S3_ENDPOINT begin with http://?"
        )
    if isinstance(reason, SSLError):
        return NoAnswer(
            f"{where}: its certificate is not trusted here; name its CA's file in SSL_CERT_FILE"
        )
    if isinstance(reason, ResponseError):
        return NoAnswer(f"{where}: answers nothing but errors ({reason}); try later")
    if isinstance(error, ProtocolError):
        return UserError(f"{where}: an answer broke off in the middle; run it again")
    return NoAnswer(
        f"{where}: no answer ({type(reason).__name__}); is MODELWRIGHT_S3_ENDPOINT right?"
    )


def _said(error: S3Error) -> str:
    """Return a server's own words, fit for a line and without our keys."""
    found = settings.current()
    # Masked first: of a key that is cut off in the middle nothing would be found.
    text = error.message or "no word why"
    for key in (found.s3_secret_key, found.s3_session_token, found.s3_access_key):
        text = text.replace(key, "***") if key else text
    text = re.sub(r"\s+", " ", text).strip().rstrip(".")
    return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."
