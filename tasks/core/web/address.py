"""Addresses of servers, as settings have them, and ports of this machine."""

from __future__ import annotations

import ipaddress
import os
import socket
from urllib.parse import urlsplit

from .. import settings
from ..errors import UserError


def address(endpoint: str, where: str) -> str:
    """Return an endpoint without the slash at its end.

    Raises:
        UserError: it is no http address, or holds a password.
    """
    try:
        parts = urlsplit(endpoint)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        sound = False
    if not sound:
        raise UserError(f"{where}: no address of a server; write `http://host:port`")
    if parts.username or parts.password:
        raise UserError(f"{where}: take the password out of the address; it has a setting")
    return endpoint.rstrip("/")


def check(*names: str) -> None:
    """Refuse settings that should hold addresses and do not; empty ones are left out.

    Raises:
        UserError: as `address` does.
    """
    found = settings.current()
    for name in names:
        if given := getattr(found, name):
            address(given, found.where(name))


def is_loopback(endpoint: str) -> bool:
    """Return whether an address is this machine's own; no proxy is asked for that."""
    try:
        host = urlsplit(endpoint).hostname or ""
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def unheard(host: str, seconds: float) -> str:
    """Return why nobody answers at host[:port], or nothing: said soon, where others try again.

    Behind a proxy only the proxy knows.
    """
    from urllib.request import getproxies

    name, _, port = host.partition(":")
    if getproxies() and not is_loopback(f"http://{host}"):
        return ""
    try:
        socket.create_connection((name, int(port or 443)), seconds).close()
    except (OSError, ValueError) as error:
        return str(error)
    return ""


def taken(host: str, port: int) -> str:
    """Return why no server can listen at a port of this machine, or nothing.

    Args:
        host: where it would listen; nothing for everywhere.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return os.strerror(error.errno or 0)
    return ""
