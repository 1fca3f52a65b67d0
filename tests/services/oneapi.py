"""One API as its source has it (v0.6.11-preview.7): a failure is HTTP 200 with `success: false`."""

from __future__ import annotations

import json
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, ValidationError

from tests.services.jsonserver import Reply, Request, Service

TOKEN, USER, PASSWORD, KEY = "access-of-a-test", "root", "123456-of-a-test", "sk-clientofatest"

CLIENT = httpx.Client(trust_env=False)
# What a channel is tested with.
HELLO = [{"role": "user", "content": "hi"}]


class ChannelForm(BaseModel):
    """model/channel.go: what a body may hold.  Go refuses another type, and drops what it has not.

    Here what it has not is refused, too, so that a slip of ours is seen.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    id: int = 0
    type: int = 0
    key: str = ""
    status: int = 0
    name: str = ""
    weight: int | None = None
    base_url: str | None = None
    other: str | None = None
    models: str = ""
    group: str = ""
    model_mapping: str | None = None
    priority: int | None = None
    config: str = ""
    system_prompt: str | None = None


class OneApi(Service):
    """One API.

    Attributes:
        channels: its table; keys are in it, and in no answer but that of a change.
        stale: for how many chats a new channel is not yet known, as with MEMORY_CACHE_ENABLED.
        drops_empty: it takes a channel without a key, says yes, and adds nothing.
    """

    prefix = "/api/channel/"

    def __init__(self) -> None:
        super().__init__()
        self.channels: list[dict[str, Any]] = []
        self.stale = 0
        self.sessions: set[str] = set()

    def has(self, **values: Any) -> dict[str, Any]:
        """Add a channel as somebody's hand would; return it."""
        empty: dict[str, Any] = {
            "type": 1, "key": "sk-theirs", "status": 1, "name": "", "weight": 0, "base_url": "",
            "other": None, "models": "", "group": "default", "model_mapping": "", "priority": 0,
            "config": "", "system_prompt": None,
        }  # fmt: skip
        ids = [channel["id"] for channel in self.channels]
        self.channels.append({**empty, **values, "id": max(ids, default=0) + 1})
        return self.channels[-1]

    def reply(self, request: Request) -> Reply:
        if request.line == "GET /api/status":
            return self.good({"version": "v0.6.11-preview.7", "system_name": "One API"})
        if request.line == "POST /api/user/login":
            return self.login(request)
        if request.path.startswith("/v1/"):
            return self.relay(request)
        if refused := self.refusal(request):
            return refused
        try:
            return self.admin(request)
        except ValidationError as error:
            return self.bad(f"json: cannot unmarshal: {error}")

    def good(self, data: Any = None) -> Reply:
        return Reply({"success": True, "message": "", "data": data})

    def bad(self, message: str) -> Reply:
        return Reply({"success": False, "message": message})

    def login(self, request: Request) -> Reply:
        if request.body != {"username": USER, "password": PASSWORD}:
            return self.bad("用户名或密码错误，或用户已被封禁")
        self.sessions.add("session=of-a-test")
        reply = self.good({"id": 1, "username": USER, "role": 100})
        reply.headers["Set-Cookie"] = "session=of-a-test; Path=/; HttpOnly"
        return reply

    def refusal(self, request: Request) -> Reply | None:
        if request.headers.get("cookie") in self.sessions:
            return None
        shown = request.headers.get("authorization", "").replace("Bearer ", "", 1)
        if not shown:
            message = "无权进行此操作，未登录且未提供 access token"
            return Reply({"success": False, "message": message}, 401)
        return None if shown == TOKEN else self.bad("无权进行此操作，access token 无效")

    def admin(self, request: Request) -> Reply:
        last = request.path.rpartition("/")[2]
        if request.line == f"GET {self.prefix}search":
            return self.good([self.shown(one) for one in self.search(request)])
        if request.line == f"POST {self.prefix}":
            return self.add(request.body)
        if request.line == f"PUT {self.prefix}":
            return self.change(request.body)
        if request.method == "DELETE" and last.isdigit():
            self.channels = [one for one in self.channels if one["id"] != int(last)]
            return self.good()
        if request.path.startswith(f"{self.prefix}test/"):
            return self.test(int(last), request.query["model"])
        return Reply({"error": {"message": f"Invalid URL ({request.line})"}}, 404)

    def search(self, request: Request) -> list[dict[str, Any]]:
        """Return what begins with the keyword, and what has it as its id."""
        word = request.query["keyword"]
        return [
            one for one in self.channels if one["name"].startswith(word) or str(one["id"]) == word
        ]

    def shown(self, channel: dict[str, Any]) -> dict[str, Any]:
        return {**channel, "key": ""}

    def add(self, body: dict[str, Any]) -> Reply:
        form = ChannelForm(**body).model_dump(exclude={"id"}, exclude_unset=True)
        # The key is split at its lines, and one channel added for each that is not empty.
        for key in filter(None, form.get("key", "").split("\n")):
            self.has(**{**form, "key": key, "status": form.get("status") or 1})
        return self.good()

    def change(self, body: dict[str, Any]) -> Reply:
        """Change what is there; what is zero or empty is not written, unless by a pointer."""
        form = ChannelForm(**body).model_dump(exclude_unset=True)
        pointers = {"weight", "base_url", "other", "model_mapping", "priority", "system_prompt"}
        for channel in self.channels:
            if channel["id"] == form["id"]:
                channel.update({k: v for k, v in form.items() if v or k in pointers})
                return self.good(channel)
        return self.bad("record not found")

    def test(self, number: int, model: str) -> Reply:
        channel = next((one for one in self.channels if one["id"] == number), None)
        if channel is None:
            return self.bad("record not found")
        answer = self.send(channel, {"model": model, "messages": HELLO, "max_tokens": 2})
        if answer.status != 200:
            return self.bad(f"http status code: {answer.status}, error message: {answer.body}")
        return self.good()

    def relay(self, request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {self.client_key()}":
            return Reply({"error": {"message": "无效的令牌", "type": "one_api_error"}}, 401)
        model = request.body["model"]
        able = [one for one in self.channels if model in self.models(one) and one["status"] == 1]
        if not able or self.stale > 0:
            self.stale -= 1
            message = f"当前分组 default 下对于模型 {model} 无可用渠道"
            return Reply({"error": {"message": message, "type": "one_api_error"}}, 503)
        return self.send(able[0], request.body)

    def client_key(self) -> str:
        return KEY

    def models(self, channel: dict[str, Any]) -> list[str]:
        return str(channel["models"]).split(",")

    def mapping(self, channel: dict[str, Any]) -> dict[str, str]:
        found: dict[str, str] = json.loads(channel["model_mapping"] or "{}")
        return found

    def address(self, channel: dict[str, Any]) -> str:
        return f"{channel['base_url']}/v1/chat/completions"

    def send(self, channel: dict[str, Any], body: dict[str, Any]) -> Reply:
        """Send a chat request through a channel, for real."""
        model = self.mapping(channel).get(body["model"], body["model"])
        headers = {"Authorization": f"Bearer {channel['key']}"}
        try:
            body = {**body, "model": model}
            answer = CLIENT.post(self.address(channel), json=body, headers=headers)
        except httpx.HTTPError as error:
            return Reply({"error": {"message": f"do request failed: {error}"}}, 500)
        return Reply(answer.json(), answer.status_code)
