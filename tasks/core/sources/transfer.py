"""Bytes from a server into a file: tried again, gone on with, hashed on their way.

The requests are huggingface_hub's, whatever the server.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import UserError
from .sink import Progress, Sink

ATTEMPTS = 5
PAUSE = 1.0
# Larger blocks are given back to the system and asked for again, page by page, each time.
BLOCK = 256 << 10
BROKEN = (500, 502, 503, 504)


@dataclass(frozen=True)
class Remote:
    """A file to fetch.

    Attributes:
        path: where it belongs, below the stage's folder.
        digest: `sha256:...`, or `git:...` for a Git object's SHA-1.
    """

    path: str
    size: int
    digest: str
    url: str


def transfer(remote: Remote, partial: Path, headers: Mapping[str, str], progress: Progress) -> str:
    """Fetch a file, going on where it ends; one that turns out wrong is fetched once anew.

    Returns its sha256.

    Raises:
        UserError: the server sends other bytes than it promised.
    """
    for _ in range(2):
        digest = _write(remote, partial, progress, lambda s: _stream(remote, s, headers, progress))
        if digest:
            return digest
    raise UserError(
        f"{remote.path}: the server sent other bytes than those with {remote.digest}, twice; "
        "ask its owner, or take another mirror"
    )


def copy(found: Path, remote: Remote, partial: Path, progress: Progress) -> str | None:
    """Copy a file of another disk; return its sha256, or None if it is not the one."""
    if found.stat().st_size != remote.size:
        return None

    def read(sink: Sink) -> None:
        with found.open("rb") as file:
            file.seek(sink.tell())
            while block := file.read(BLOCK):
                sink.write(block)

    return _write(remote, partial, progress, read)


def _write(
    remote: Remote, partial: Path, progress: Progress, rest: Callable[[Sink], None]
) -> str | None:
    """Write a file, going on where it ends; return its sha256, None if it turned out wrong."""
    with partial.open("ab+") as file:
        if file.seek(0, os.SEEK_END) > remote.size:
            file.truncate(0)
        sink = Sink(file, remote, progress)
        progress.add(file.tell())
        try:
            rest(sink)
        finally:
            sink.close()
        file.flush()
        os.fsync(file.fileno())
    if sink.hasher.agrees:
        return f"sha256:{sink.hasher.sha256.hexdigest()}"
    partial.unlink()
    progress.done -= remote.size
    return None


def head(url: str, headers: Mapping[str, str], most: int) -> bytes:
    """Return the first bytes of a file; a server that knows no ranges is left after them."""
    import httpx2
    from huggingface_hub.utils._http import hf_raise_for_status

    ranged = {**headers, "Range": f"bytes=0-{most - 1}"}
    client, found = httpx2.Client(follow_redirects=True, timeout=30), b""
    with client, client.stream("GET", url, headers=ranged) as answer:
        hf_raise_for_status(answer)
        for piece in answer.iter_bytes():
            found += piece
            if len(found) >= most:
                break
    return found[:most]


def _stream(remote: Remote, sink: Sink, headers: Mapping[str, str], progress: Progress) -> None:
    """Fetch the rest of a file; try again what may pass, for as long as it gets on."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    failures = 0
    while sink.tell() < remote.size:
        before = sink.tell()
        fault: Exception | None = None
        try:
            _ask(remote.url, sink, headers)
        except HfHubHTTPError as error:
            if error.response.status_code == 416:
                sink.truncate()
            elif error.response.status_code not in BROKEN:
                raise
            fault = error
        except (httpx2.NetworkError, httpx2.RemoteProtocolError, httpx2.TimeoutException) as error:
            fault = error
        failures = 0 if sink.tell() > before else failures + 1
        if failures == ATTEMPTS:
            raise fault or UserError(f"{remote.path}: the server does not send it; try again later")
        if fault:
            progress.stopped.wait(PAUSE * 2**failures)


def _ask(url: str, sink: Sink, headers: Mapping[str, str]) -> None:
    """Write what a server sends from the sink's end on.

    huggingface_hub's own `http_get` gathers 10 MiB at a time, which costs twice the time of all
    else, and refuses files of more than 50 GB.
    """
    from huggingface_hub.constants import HF_HUB_DOWNLOAD_TIMEOUT
    from huggingface_hub.utils._http import hf_raise_for_status, http_stream_backoff

    # A compressed answer has no ranges.
    asked = {**headers, "Accept-Encoding": "identity"}
    if start := sink.tell():
        asked["Range"] = f"bytes={start}-"
    how: Any = {"retry_on_exceptions": (), "retry_on_status_codes": (408, 429)}
    timeout = HF_HUB_DOWNLOAD_TIMEOUT
    with http_stream_backoff("GET", url, headers=asked, timeout=timeout, **how) as answer:
        hf_raise_for_status(answer)
        if start and answer.status_code == 200:  # a server without ranges
            sink.truncate()
        for block in answer.iter_bytes(BLOCK):
            sink.write(block)


@contextmanager
def explained(name: str, where: str, token: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into one clear message, without URLs that hold keys.

    Args:
        name: what is fetched; where: the server.
        token: the variable that holds the token for it, or what else gives access.
    """
    import logging

    import httpx2
    from huggingface_hub import errors
    from huggingface_hub.utils.tqdm import disable_progress_bars

    # Ours say the same, once.
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    disable_progress_bars()
    cures = {
        401: f"set {token} to one that is valid, or unset it",
        403: f"you may not read it; look at the rights of {token}",
        404: "it is not there; correct the name, or run `doit update:MODEL` if it has moved",
        429: f"too many requests; wait some minutes, or set {token} for a higher limit",
    }
    check_token(token)
    try:
        yield
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        cure = cures.get(status, "try again later")
        raise UserError(f"{name}: {where} answers {status}: {cure}") from None
    except (httpx2.TransportError, httpx2.InvalidURL) as error:
        raise UserError(
            f"{where}: no answer ({type(error).__name__}) for {name}; is the address right, and "
            f"{_proxy(where)}?"
        ) from None


def check_token(variable: str) -> None:
    """Refuse a token that was pasted with more than it is, which no header can hold.

    Raises:
        UserError: the variable holds such a one.
    """
    value = "".join(os.environ.get(variable, "").split())
    if not (value.isascii() and value.isprintable()):
        raise UserError(f"{variable}: holds characters that no token has; copy the token once more")


def _proxy(where: str) -> str:
    """Return what to ask of a proxy where nobody answers: of the one that is set, or of none."""
    from urllib.request import getproxies, proxy_bypass

    address, proxies = urlsplit(where), getproxies()
    kind = next((kind for kind in (address.scheme, "all") if proxies.get(kind)), "")
    if not kind or proxy_bypass(address.netloc):
        return "do you need a proxy (https_proxy) or a mirror"
    name = f"{kind}_proxy"
    return f"the proxy that {name if os.environ.get(name) else name.upper()} names"
