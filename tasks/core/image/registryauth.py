"""Who we are to a registry: Docker's and podman's files, credential helpers, tokens.

Specs: docker login's config.json; containers-auth.json(5); distribution: token authentication.
No secret is ever part of a message.
"""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from ..errors import UserError
from .reference import HUB

# Docker's files call Docker Hub by the address of an API long gone.
_HUB_KEY = "https://index.docker.io/v1/"
_PARAMETER = re.compile(r'(\w+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')
# What a registry means when it does not say how long a token lives.
_LIFETIME = 60


@dataclass(frozen=True)
class Credentials:
    """A user and a password, or an identity token that buys access tokens."""

    user: str = ""
    password: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


@dataclass(frozen=True)
class Challenge:
    """What a WWW-Authenticate header asks for."""

    scheme: str
    parameters: dict[str, str]


@dataclass(frozen=True)
class Token:
    """An access token and until when (monotonic seconds) it is used."""

    value: str = field(repr=False)
    until: float = 0.0


def find(host: str, repository: str) -> Credentials | None:
    """Return the credentials for a repository, from the first file that has any.

    Raises:
        UserError: a file is not JSON, or a credential helper is missing or fails.
    """
    for path in files():
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError:
            continue
        except ValueError:
            raise UserError(f"{path}: not JSON; `docker login {host}` writes it anew") from None
        found = _of_file(path, content, host, repository) if isinstance(content, dict) else None
        if found:
            return found
    return None


def files() -> Iterator[Path]:
    """Yield where `docker login` and `podman login` keep credentials, in the order of trust."""
    environ = os.environ
    if "REGISTRY_AUTH_FILE" in environ:
        yield Path(environ["REGISTRY_AUTH_FILE"])
    yield Path(environ.get("DOCKER_CONFIG") or "~/.docker").expanduser() / "config.json"
    runtime = environ.get("XDG_RUNTIME_DIR") or f"/run/containers/{os.getuid()}"
    yield Path(runtime) / "containers" / "auth.json"
    home = environ.get("XDG_CONFIG_HOME") or "~/.config"
    yield Path(home).expanduser() / "containers" / "auth.json"


def _of_file(path: Path, content: Any, host: str, repository: str) -> Credentials | None:
    helpers = content.get("credHelpers") or {}
    for key in _keys(host, repository):
        if key in helpers:
            return _ask_helper(str(helpers[key]), key)
    store = content.get("credsStore")
    if store:
        key = _HUB_KEY if host == HUB else host
        found = _ask_helper(str(store), key)
        if found:
            return found
    auths = content.get("auths") or {}
    for key in _keys(host, repository):
        if auths.get(key):
            return _decode(path, key, auths[key])
    return None


def _keys(host: str, repository: str) -> Iterator[str]:
    """Yield the names under which credentials may be kept, the most special first."""
    hosts = [host, "index.docker.io", "registry-1.docker.io"] if host == HUB else [host]
    parts = repository.split("/")
    for name in hosts:
        for count in range(len(parts), -1, -1):
            yield "/".join([name, *parts[:count]])
    if host == HUB:
        yield _HUB_KEY
    for name in hosts:
        for scheme in ("https://", "http://"):
            for end in ("", "/", "/v1", "/v1/", "/v2", "/v2/"):
                yield f"{scheme}{name}{end}"


def _decode(path: Path, key: str, entry: Any) -> Credentials | None:
    try:
        if entry.get("identitytoken"):
            return Credentials(identity=str(entry["identitytoken"]))
        if entry.get("auth"):
            text = base64.b64decode(entry["auth"]).decode()
            user, colon, password = text.partition(":")
            if not colon:
                raise ValueError
            return Credentials(user, password.rstrip("\0"))
        if entry.get("username"):
            return Credentials(str(entry["username"]), str(entry.get("password", "")))
    except (ValueError, AttributeError, TypeError):
        raise UserError(f"{path}: auths.{key}: not readable; log in again") from None
    return None


def _ask_helper(name: str, key: str) -> Credentials | None:
    """Run a credential helper; None where it knows nothing of the registry."""
    program = f"docker-credential-{name}"
    try:
        done = subprocess.run(
            [program, "get"], input=key, capture_output=True, text=True, timeout=60, check=False
        )
    except FileNotFoundError:
        raise UserError(
            f"{program}: no such program, but Docker's config.json asks it for {key}; install it, "
            "or take the line out and log in again"
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"{program}: no answer in 60 s; run `{program} list` to see why") from None
    if done.returncode:
        if "not found" in (done.stdout + done.stderr).lower():
            return None
        raise UserError(f"{program}: failed for {key}; run `{program} list` to see why")
    try:
        found = json.loads(done.stdout)
        user, secret = str(found["Username"]), str(found["Secret"])
    except (ValueError, LookupError, TypeError):
        raise UserError(f"{program}: answered for {key} in a form of its own") from None
    return Credentials(identity=secret) if user == "<token>" else Credentials(user, secret)


def challenge(header: str) -> Challenge:
    """Return a WWW-Authenticate header in parts; Bearer is taken where several are offered."""
    start = max(header.lower().find("bearer "), 0)
    scheme, _, rest = header[start:].partition(" ")
    found = {m[1].lower(): m[2] if m[2] is not None else m[3] for m in _PARAMETER.finditer(rest)}
    return Challenge(scheme.lower(), found)


def fetch_token(
    client: httpx.Client, asked: Challenge, scopes: list[str], known: Credentials | None
) -> Token:
    """Buy an access token at the address that the registry named.

    Raises:
        UserError: it is refused, or the answer holds none.
        httpx.HTTPError: the token server does not answer.
    """
    realm, service = asked.parameters.get("realm", ""), asked.parameters.get("service", "")
    where = httpx.URL(realm)
    if where.scheme not in ("http", "https"):
        raise UserError(f"the registry names no token server (realm {realm!r}); see its setup")
    answer = _by_form(client, where, service, scopes, known) if known and known.identity else None
    if answer is None or answer.status_code == 404:  # not every token server has the newer way
        answer = _by_question(client, where, service, scopes, known)
    if answer.status_code in (429, *range(500, 600)):
        raise httpx.HTTPStatusError("", request=answer.request, response=answer)
    if answer.status_code != 200:
        raise UserError(_refused(where.host, answer.status_code, known))
    return _token(where.host, answer)


def _by_form(
    client: httpx.Client, where: httpx.URL, service: str, scopes: list[str], known: Credentials
) -> httpx.Response:
    """Show an identity token, which buys access tokens."""
    form = {"grant_type": "refresh_token", "service": service, "scope": " ".join(scopes)}
    who = {"client_id": "modelwright", "refresh_token": known.identity}
    return client.post(where, data={**form, **who})


def _by_question(
    client: httpx.Client,
    where: httpx.URL,
    service: str,
    scopes: list[str],
    known: Credentials | None,
) -> httpx.Response:
    """Show user and password, if any are known."""
    question: Any = [("service", service)] * bool(service) + [("scope", one) for one in scopes]
    secret = known.password or known.identity if known else ""
    who = Credentials(known.user or "<token>", secret).basic if known else None
    headers = {"Authorization": who} if who else {}
    return client.get(where.copy_merge_params(question), headers=headers)


def _token(host: str, answer: httpx.Response) -> Token:
    try:
        found = answer.json()
        value = str(found.get("token") or found["access_token"])
        lifetime = float(found.get("expires_in") or _LIFETIME)
    except (ValueError, LookupError, TypeError, AttributeError):
        raise UserError(f"{host}: the token server's answer holds no token") from None
    # Used for four fifths of its life, so that none runs out between check and use.
    return Token(value, time.monotonic() + 0.8 * lifetime)


def _refused(host: str, status: int, known: Credentials | None) -> str:
    if known:
        return f"{host}: refuses the credentials ({status}); log in again: `docker login`"
    return f"{host}: gives no token without credentials ({status}); `docker login` first"
