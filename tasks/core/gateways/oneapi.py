"""One API (songquanpeng/one-api).

It answers a failure with HTTP 200 and `success: false`, names no id for a channel that it adds,
searches by the beginning of a name, and never shows a channel's key.
"""

from __future__ import annotations

import json
import time
from typing import Any

from ..errors import UserError
from ..settings import Settings
from ..web.api import Answer, Api, chat
from .channel import MARK, NO_KEY, Channel, Fields

# Any server that speaks OpenAI's protocol; the gateway adds /v1 itself.
OPENAI = 1
STATUS = "/api/status"
ENABLED = 1
# With MEMORY_CACHE_ENABLED a new channel is known after the next sync (SYNC_FREQUENCY).
SYNC = 60.0
UNKNOWN = ("无可用渠道", "No available channel", "no available channel")


class OneApi:
    """A gateway of this kind; logs in when it is first asked something."""

    service = "One API"

    def __init__(self, settings: Settings, timeout: float, owner: str = "") -> None:
        self.settings, self.owner = settings, owner
        self.api = Api(
            self.service,
            settings.gateway_endpoint,
            settings.where("gateway_endpoint"),
            secrets=settings.secrets,
            timeout=timeout,
        )
        self._known = False

    @property
    def name(self) -> str:
        return self.api.name

    def is_up(self) -> bool:
        return self.api.answers(STATUS)

    def wait(self, seconds: float) -> None:
        self.api.wait(STATUS, seconds)

    def fields(self, channel: Channel) -> Fields:
        mapping = {channel.model: channel.served} if channel.model != channel.served else {}
        fields: Fields = {
            "name": channel.name,
            "type": OPENAI,
            "base_url": channel.upstream,
            "models": channel.model,
            "group": channel.group,
            "model_mapping": json.dumps(mapping) if mapping else "",
            "status": ENABLED,
        }
        return fields if channel.priority is None else {**fields, "priority": channel.priority}

    def find(self, name: str) -> list[Fields]:
        data = self.ask("GET", "/api/channel/search", keyword=name, page_size=100)
        # new-api gives pages.
        rows = data.get("items") if isinstance(data, dict) else data
        return called(rows, name)

    def marked(self, found: Fields) -> str | None:
        mark, _, owner = str(found.get("other") or "").partition(":")
        return owner if mark == MARK else None

    def mark(self, found: Fields) -> Fields:
        # A field that only channels of a few other kinds have a use for.
        return {"other": f"{MARK}:{self.owner}"}

    def models(self, found: Fields) -> list[str]:
        return [model for model in str(found.get("models") or "").split(",") if model]

    def add(self, fields: Fields, key: str) -> None:
        self.ask("POST", "/api/channel/", {**fields, **self.mark({}), "key": key or NO_KEY})

    def change(self, found: Fields, fields: Fields, key: str) -> None:
        body = {**fields, "id": found["id"], **({"key": key} if key else {})}
        self.ask("PUT", "/api/channel/", body)

    def remove(self, found: Fields) -> None:
        self.ask("DELETE", f"/api/channel/{found['id']}")

    def test(self, found: Fields, model: str) -> None:
        self.ask("GET", f"/api/channel/test/{found['id']}", model=model)

    def chat(self, model: str, question: str) -> str | None:
        key = self.client_key()
        if not key:
            return None
        with self.api.with_headers(Authorization=f"Bearer {key}") as client:
            return _patiently(client, model, question)

    def client_key(self) -> str:
        """Return the key that clients of the gateway show."""
        return self.settings.gateway_key

    def ask(self, method: str, path: str, body: Any = None, **query: str | int) -> Any:
        """Return the data of an answer.

        Raises:
            UserError: the gateway refuses, by status or by `success: false`.
        """
        self.log_in()
        return self.data(self.api.ask(method, path, body, **query), f"{method} {path}")

    def data(self, answer: Answer, what: str) -> Any:
        """Return the data of an answer, or raise what the gateway says instead."""
        body = answer.body
        if answer.status < 300 and isinstance(body, dict) and body.get("success") is True:
            return body.get("data")
        said = self.api.said(answer)
        raise self.api.fault(f"{what}: {answer.status}, {said}; {self.cure(answer.status, said)}")

    def cure(self, status: int, said: str) -> str:
        """Return what to do about a refusal."""
        words = ("access token", "未登录", "权限", "密码错误", "unauthorized", "New-Api-User")
        if status in (401, 403) or any(word in said for word in words):
            return (
                "set MODELWRIGHT_GATEWAY_TOKEN to an administrator's access token, or "
                "MODELWRIGHT_GATEWAY_USER and MODELWRIGHT_GATEWAY_PASSWORD"
            )
        return "its log tells more"

    def log_in(self) -> None:
        """Show the token of the settings, or log in with user and password."""
        if self._known:
            return
        found = self.settings
        if found.gateway_token:
            self.show(found.gateway_token, found.gateway_user)
        elif found.gateway_user and found.gateway_password:
            body = {"username": found.gateway_user, "password": found.gateway_password}
            answer = self.api.ask("POST", "/api/user/login", body)
            self.greet(self.data(answer, "login"))
        else:
            raise UserError(
                f"{self.name}: no credentials; set MODELWRIGHT_GATEWAY_TOKEN, or "
                "MODELWRIGHT_GATEWAY_USER and MODELWRIGHT_GATEWAY_PASSWORD"
            )
        self._known = True

    def show(self, token: str, user: str) -> None:
        """Show an access token with every request."""
        self.api.headers["Authorization"] = token

    def greet(self, data: Any) -> None:
        """Take from the answer to a login what it holds beside the cookie."""


def called(rows: Any, name: str) -> list[Fields]:
    """Return those of an answer's channels that have a name."""
    found = rows if isinstance(rows, list) else []
    return [row for row in found if isinstance(row, dict) and row.get("name") == name]


def _patiently(client: Api, model: str, question: str) -> str:
    """Chat; wait while the gateway has not yet taken a new channel into its cache."""
    end = time.monotonic() + SYNC
    while True:
        try:
            return chat(client, model, question)
        except UserError as error:
            if not any(word in str(error) for word in UNKNOWN):
                raise
            if time.monotonic() > end:
                raise UserError(
                    f"{error}; does MODELWRIGHT_GATEWAY_KEY belong to a user of the channel's "
                    "group? If the gateway caches channels, restart it once"
                ) from None
            time.sleep(1)
