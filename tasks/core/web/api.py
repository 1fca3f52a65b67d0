"""A service's JSON API: one error for every way in which it can fail to answer.

What a service says about a failure is passed on; what it may never repeat are our secrets.
"""

from __future__ import annotations

import functools
import json
import re
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from ..errors import UserError
from .address import address, is_loopback

# A small model on a CPU takes its time over an answer.
PATIENT = 300.0
# One that runs says so at once.
QUICK = 10.0

SHORTEST = 4
_MOST = 300


@dataclass(frozen=True)
class Answer:
    """What came back: the HTTP status, and the JSON of the body."""

    status: int
    body: Any


class Api:
    """A service's API.

    Args:
        service: what people call it, for messages.
        endpoint: its address; a path in it stays in front of every request's.
        where: the setting that the address is from, for messages.
        secrets: what no message may hold.
        timeout: how many seconds an answer may take.

    Raises:
        UserError: the address is none, or a proxy's variable is wrong.
    """

    def __init__(
        self,
        service: str,
        endpoint: str,
        where: str,
        *,
        headers: Mapping[str, str] | None = None,
        secrets: Iterable[str] = (),
        timeout: float = PATIENT,
    ) -> None:
        self.service, self.where = service, where
        self.endpoint = address(endpoint, where)
        self.secrets = list(secrets)
        self._quick = min(timeout, QUICK)
        try:
            self._client = httpx.Client(
                headers={"User-Agent": "modelwright", **(headers or {})},
                timeout=httpx.Timeout(timeout, connect=min(timeout, 10)),
                verify=_trusted(),
                trust_env=not is_loopback(self.endpoint),
            )
        except (ValueError, ImportError, httpx.InvalidURL):
            raise UserError(
                "http_proxy, https_proxy or all_proxy: not the address of an http proxy; correct it"
            ) from None

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    @property
    def name(self) -> str:
        """The service and its address, as messages begin."""
        return f"{self.service} at {self.endpoint}"

    @property
    def headers(self) -> httpx.Headers:
        """What every request shows; a login adds to it."""
        return self._client.headers

    def with_headers(self, **headers: str) -> Api:
        """Return the same service, asked with headers of its own in the place of ours."""
        return Api(self.service, self.endpoint, self.where, headers=headers, secrets=self.secrets)

    def ask(self, method: str, path: str, body: Any = None, **query: str | int) -> Answer:
        """Return the answer to a request, whatever its status.

        Raises:
            UserError: there is no answer, or it is not JSON.
        """
        return self._ask(method, path, body, query, httpx.USE_CLIENT_DEFAULT)

    def answers(self, path: str) -> bool:
        """Return whether the service answers a question well, and soon."""
        try:
            return self._ask("GET", path, None, {}, self._quick).status == httpx.codes.OK
        except UserError:
            return False

    def wait(self, path: str, seconds: float) -> None:
        """Wait until the service answers a question well.

        Raises:
            UserError: it does not in that time; says what it did last.
        """
        end = time.monotonic() + seconds
        while True:
            try:
                answer = self._ask("GET", path, None, {}, self._quick)
                if answer.status == httpx.codes.OK:
                    return
                last = self.fault(f"GET {path}: {answer.status} for {seconds:.0f} s; see its log")
            except UserError as error:
                last = error
            if time.monotonic() > end:
                raise last
            time.sleep(0.5)

    def _ask(
        self, method: str, path: str, body: Any, query: Mapping[str, str | int], timeout: Any
    ) -> Answer:
        try:
            answer = self._client.request(
                method, f"{self.endpoint}{path}", json=body, params=query or None, timeout=timeout
            )
        except httpx.TimeoutException:
            raise self.fault(
                f"no answer to {method} {path} in time; is it overloaded, or still starting?"
            ) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self.fault(
                f"no answer ({self.told(error)}); is it up, and is {self.where} right?"
            ) from None
        return self._answer(answer, f"{method} {path}")

    def _answer(self, answer: httpx.Response, what: str) -> Answer:
        try:
            return Answer(answer.status_code, answer.json())
        except (json.JSONDecodeError, UnicodeDecodeError):
            if answer.status_code == httpx.codes.NOT_FOUND:
                return Answer(answer.status_code, {"message": "there is no such call"})
            raise self.fault(
                f"{what}: {answer.status_code}, an answer that is not JSON "
                f"({self.told(answer.text)}); is {self.where} the address of its API?"
            ) from None

    def fault(self, what: str) -> UserError:
        """Return an error about this service, without secrets."""
        return UserError(f"{self.name}: {self.masked(what)}")

    def said(self, answer: Answer) -> str:
        """Return what a service says in an answer that is a failure, fit for a line."""
        return self.told(refusal(answer.body) or answer.body)

    def told(self, what: object) -> str:
        """Return what a service says, fit for a line of a message."""
        # Masked first: of a secret that is cut off in the middle nothing would be found.
        text = re.sub(r"\s+", " ", self.masked(str(what))).strip() or type(what).__name__
        return text if len(text) <= _MOST else f"{text[: _MOST - 3]}..."

    def masked(self, text: str) -> str:
        """Return a text without our secrets; shorter ones than these are parts of common words."""
        for secret in self.secrets:
            text = text.replace(secret, "***") if len(secret) >= SHORTEST else text
        return text


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Return what is trusted; to read all certificates takes longer than most requests."""
    return ssl.create_default_context()


def chat(api: Api, model: str, question: str, path: str = "/v1/chat/completions") -> str:
    """Return the answer to a question, by OpenAI's protocol.

    Raises:
        UserError: no answer, or one without a text.
    """
    body = {"model": model, "messages": [{"role": "user", "content": question}], "stream": False}
    answer = api.ask("POST", path, body)
    try:
        return str(answer.body["choices"][0]["message"]["content"] or "")
    except (LookupError, TypeError):
        raise api.fault(f"no answer of '{model}': {answer.status}, {api.said(answer)}") from None


def refusal(body: Any) -> str:
    """Return the words of an error, in any of the forms that services use."""
    if not isinstance(body, dict):
        return ""
    inner = body.get("error")
    if isinstance(inner, dict):
        return str(inner.get("message") or inner)
    return str(inner or body.get("message") or body.get("statusText") or body.get("detail") or "")
