"""Who we are to one registry: what each request shows, with tokens bought and kept while they live.

Spec: distribution: token authentication.
"""

from __future__ import annotations

import threading
import time

import httpx

from ..errors import UserError
from . import registryauth
from .registryauth import Challenge, Credentials, Token


class Authorizer:
    """What a registry asks to be shown; threads may share it.

    Args:
        host: host[:port] as an image's name has it.
        pauses: seconds before each new try at its token server.
    """

    def __init__(self, host: str, client: httpx.Client, pauses: tuple[float, ...]) -> None:
        self.host = host
        self._client = client
        self._pauses = pauses
        self._challenge: Challenge | None = None
        self._tokens: dict[tuple[str, ...], Token] = {}
        self._lock = threading.Lock()

    def hear(self, header: str | None) -> None:
        """Take a WWW-Authenticate header, or that there is none."""
        self._challenge = registryauth.challenge(header) if header else None

    def headers(self, repository: str, scopes: list[str], *, anew: bool) -> dict[str, str]:
        """Return the header that shows who asks; empty where nobody wants to know.

        Args:
            anew: the last token was refused.

        Raises:
            UserError: the credentials are missing or refused.
        """
        with self._lock:
            asked = self._challenge
            if asked is None:
                return {}
            if asked.scheme == "basic":
                return {"Authorization": self._known(repository).basic}
            return {"Authorization": f"Bearer {self._token(asked, repository, scopes, anew)}"}

    def _known(self, repository: str) -> Credentials:
        known = registryauth.find(self.host, repository)
        if known is None:
            raise UserError(
                f"{self.host}: wants a user and a password, and none are known; "
                f"`docker login {self.host}` first"
            )
        return known

    def _token(self, asked: Challenge, repository: str, scopes: list[str], anew: bool) -> str:
        token = self._tokens.get(tuple(scopes))
        if anew or token is None or token.until <= time.monotonic():
            known = registryauth.find(self.host, repository)
            token = self._tokens[tuple(scopes)] = self._buy(asked, scopes, known)
        return token.value

    def _buy(self, asked: Challenge, scopes: list[str], known: Credentials | None) -> Token:
        for pause in (*self._pauses, None):
            try:
                return registryauth.fetch_token(self._client, asked, scopes, known)
            except httpx.HTTPError:
                if pause is None:
                    break
                time.sleep(pause)
        raise UserError(f"{self.host}: its token server does not answer; try again later")
