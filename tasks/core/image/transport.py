"""Connections to registries: TLS, proxies, and which registries may do without."""

from __future__ import annotations

import ssl
from pathlib import Path

import httpx

from .. import settings
from ..errors import UserError
from ..web.address import is_loopback

TIMEOUT = httpx.Timeout(300, connect=10, write=60)


def may_be_plain(host: str) -> bool:
    """Return whether a registry may speak plain http."""
    return host in _insecure() or is_loopback(f"http://{host}")


def client(host: str) -> httpx.Client:
    """Return a client for a registry.

    Raises:
        UserError: a setting or a proxy's variable is wrong.
    """
    trusted = ssl.create_default_context()
    own = settings.current().registry_ca
    try:
        if own:
            trusted.load_verify_locations(Path(own).expanduser())
    except (OSError, ssl.SSLError) as error:
        where = settings.current().where("registry_ca")
        reason = getattr(error, "strerror", None) or "no certificate in it"
        raise UserError(f"{own}: {reason}; {where} should name a file in PEM form") from None
    if host in _insecure():
        trusted.check_hostname, trusted.verify_mode = False, ssl.CERT_NONE
    try:
        return httpx.Client(
            verify=trusted,
            timeout=TIMEOUT,
            # Bytes as they are: what a proxy packs has another digest.
            headers={"User-Agent": "modelwright", "Accept-Encoding": "identity"},
            # As every other tool does it: a proxy is not asked for what runs on this machine.
            mounts={"all://localhost": None, "all://127.0.0.1": None, "all://[::1]": None},
        )
    except (ValueError, ImportError, httpx.InvalidURL):
        raise UserError(
            "http_proxy, https_proxy or all_proxy: not the address of an http proxy; correct it"
        ) from None


def _insecure() -> frozenset[str]:
    """Return the registries that may speak plain http or show any certificate."""
    return frozenset(settings.current().registry_insecure.replace(",", " ").split())
