"""What a registry's refusals and silences mean, and what to do about each."""

from __future__ import annotations

from typing import Any

import httpx

from ..errors import UserError


class Refused(UserError):
    """The registry said no.

    Attributes:
        status: the HTTP status.
        codes: the registry's own words for it, such as DIGEST_INVALID.
        pause: the seconds that it asks us to wait, 0 where it does not say.
    """

    def __init__(self, message: str, status: int, codes: list[str]) -> None:
        super().__init__(message)
        self.status = status
        self.codes = codes
        self.pause = 0.0


def of(answer: httpx.Response, host: str, repository: str) -> Refused:
    """Return an answer that is a refusal as an error that says what to do."""
    try:
        answer.read()
        faults: list[dict[str, Any]] = [
            fault for fault in answer.json()["errors"] if isinstance(fault, dict)
        ]
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        faults = []
    finally:
        answer.close()
    codes = [str(fault.get("code", "")) for fault in faults]
    told = "; ".join(str(fault.get("message") or fault.get("code")) for fault in faults)
    cause = f"{answer.status_code}{', ' + told if told else ''}"
    return Refused(
        f"{host}/{repository}: {cause}; {_cure(answer.status_code, codes, host)}",
        answer.status_code,
        codes,
    )


def unreachable(host: str, error: httpx.TransportError) -> str:
    """Return why there is no answer."""
    if "CERTIFICATE_VERIFY" in str(error):
        return (
            f"{host}: its certificate is not trusted ({brief(error)}); set "
            "MODELWRIGHT_REGISTRY_CA to the file of its CA"
        )
    if isinstance(error, httpx.ConnectError) and "SSL" in str(error):
        return (
            f"{host}: does not speak TLS ({brief(error)}); if plain http is meant, name "
            "it in MODELWRIGHT_REGISTRY_INSECURE"
        )
    return f"{host}: no answer ({brief(error)}); is the address right, is it up?"


def is_settled(error: httpx.TransportError) -> bool:
    """Return whether a new try cannot help: the name, the certificate or the protocol is wrong."""
    told = str(error)
    if isinstance(error, httpx.UnsupportedProtocol) or "CERTIFICATE_VERIFY" in told:
        return True
    # A TLS connection that ends too early is as passing as any that ends.
    is_tls = "SSL" in told and "EOF" not in told
    is_name = "Name or service not known" in told
    return isinstance(error, httpx.ConnectError) and (is_tls or is_name)


def brief(error: Exception) -> str:
    """Return what a connection failed of, in a few words."""
    return str(error).removeprefix("[SSL] ") or type(error).__name__


def _cure(status: int, codes: list[str], host: str) -> str:
    """Return what to do about a refusal."""
    if status == 401:
        return f"the credentials are missing or wrong: `docker login {host}`"
    if status == 403:
        return "these credentials may not do that; ask for the right to push and pull there"
    if "NAME_INVALID" in codes:
        return "choose another image.repository"
    if "DIGEST_INVALID" in codes:
        return "what was sent is not what was built; build the image anew"
    cures = {
        404: "no such image; check name, tag and registry",
        405: "the registry is read-only; push to another or ask who runs it",
        413: "a proxy before the registry limits the size of requests; have that limit raised",
        429: "too many requests; try again later",
        507: "the registry's disk is full; have room made there",
    }
    if status >= 500 and status not in cures:
        return "the registry fails, perhaps its disk is full; its own log tells"
    return cures.get(status, "the registry refuses this")
