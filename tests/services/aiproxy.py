"""AI Proxy as its source has it (2026-06): lists, whole replacement, a failure inside a success."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from tests.services.jsonserver import Reply, Request
from tests.services.oneapi import HELLO, OneApi

ADMIN_KEY = "admin-key-of-a-test"


class ChannelForm(BaseModel):
    """core/controller/channel.go, AddChannelRequest."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model_mapping: dict[str, str] | None = None
    configs: dict[str, Any] | None = None
    name: str = ""
    key: str = ""
    base_url: str = ""
    proxy_url: str = ""
    models: list[str] | None = None
    type: int = 0
    priority: int = 0
    status: int = 0
    sets: list[str] | None = None
    enabled_auto_balance_check: bool = False
    skip_tls_verify: bool = False
    enabled_no_permission_ban: bool = False
    warn_error_rate: float = 0
    max_error_rate: float = 0


class AIProxy(OneApi):
    """AI Proxy.

    Attributes:
        wants_config: a model must have a configuration (without DISABLE_MODEL_CONFIG).
    """

    def __init__(self) -> None:
        super().__init__()
        self.wants_config = False

    def has(self, **values: Any) -> dict[str, Any]:
        channel = super().has(**{"models": [], "sets": None, "model_mapping": {}, **values})
        channel.pop("group")
        return channel

    def refusal(self, request: Request) -> Reply | None:
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        if shown.removeprefix("sk-") == ADMIN_KEY:
            return None
        message = "unauthorized, no access token provided"
        return Reply({"success": False, "message": message}, 401)

    def admin(self, request: Request) -> Reply:
        words = request.path.strip("/").split("/")
        if request.line == "GET /api/channels/":
            rows = [one for one in self.channels if one["name"] == request.query["name"]]
            return self.good({"channels": rows or None, "total": len(rows)})
        if request.line == "POST /api/channel/":
            return self.add(request.body)
        number = int(words[2])
        if request.method == "PUT":
            return self.replace(number, request.body)
        if request.method == "DELETE":
            self.channels = [one for one in self.channels if one["id"] != number]
            return self.good()
        if words[3] == "status":
            self.channel(number)["status"] = request.body["status"]
            return self.good()
        return self.test(number, "/".join(words[4:]))

    def channel(self, number: int) -> dict[str, Any]:
        return next(one for one in self.channels if one["id"] == number)

    def add(self, body: dict[str, Any]) -> Reply:
        form = ChannelForm(**body).model_dump()
        if self.wants_config:
            return self.unknown(form["models"])
        self.has(**form)
        return self.good()

    def unknown(self, models: list[str]) -> Reply:
        message = f"model config not found: {models}"
        return Reply({"success": False, "message": message}, 500)

    def replace(self, number: int, body: dict[str, Any]) -> Reply:
        form = ChannelForm(**body).model_dump(exclude={"status"})
        self.channel(number).update(form)
        return self.good(self.channel(number))

    def test(self, number: int, model: str) -> Reply:
        channel = self.channel(number)
        if model not in channel["models"]:
            return self.bad("model not supported by channel")
        answer = self.send(channel, {"model": model, "messages": HELLO})
        good = answer.status == 200
        told = {"success": good, "code": answer.status, "response": "" if good else answer.body}
        return self.good({"model": model, **told})

    def client_key(self) -> str:
        return ADMIN_KEY

    def models(self, channel: dict[str, Any]) -> list[str]:
        return list(channel["models"] or [])

    def mapping(self, channel: dict[str, Any]) -> dict[str, str]:
        return dict(channel["model_mapping"] or {})

    def address(self, channel: dict[str, Any]) -> str:
        return f"{channel['base_url']}/chat/completions"
