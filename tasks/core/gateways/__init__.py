"""Gateways: one address for many models, each behind a channel.

One API, new-api and AI Proxy keep channels in much the same way, and differ in every payload; one
module for each says how.  Their APIs are those of the sources: One API v0.6.11-preview.7, new-api
of 2026, AI Proxy of 2026-06.
"""

from __future__ import annotations

from .. import settings
from ..errors import UserError
from ..web.api import PATIENT
from .aiproxy import AIProxy
from .channel import Channel, Gateway, differences
from .newapi import NewApi
from .oneapi import OneApi

__all__ = ["KINDS", "Channel", "Gateway", "connect", "differences", "kind"]

KINDS: dict[str, type[OneApi | NewApi | AIProxy]] = {
    "oneapi": OneApi,
    "newapi": NewApi,
    "aiproxy": AIProxy,
}


def kind() -> str:
    """Return which gateway the settings name."""
    return settings.current().gateway_kind


def connect(timeout: float = PATIENT, owner: str = "") -> Gateway:
    """Return the gateway of the settings.

    Args:
        owner: the mark that our channels bear (identity.py).

    Raises:
        UserError: a setting is missing or wrong.
    """
    from ..fastgpt import passwords

    found = passwords.completed(settings.current())
    chosen = KINDS[kind()]
    if not found.gateway_endpoint:
        raise UserError(
            "MODELWRIGHT_GATEWAY_ENDPOINT is not set; say where the gateway is, such as "
            "`http://127.0.0.1:3001`, in the environment or as `gateway: {endpoint: ...}` in "
            "settings.yaml"
        )
    return chosen(found, timeout, owner)
