"""new-api as its source has it in 2026: One API's paths, other bodies and statuses."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from tests.services.jsonserver import Reply, Request
from tests.services.oneapi import ChannelForm, OneApi


class AddForm(BaseModel):
    """controller/channel.go, AddChannelRequest."""

    model_config = ConfigDict(strict=True, extra="forbid")

    mode: str = ""
    multi_key_mode: str = ""
    batch_add_set_key_prefix_2_name: bool = False
    channel: ChannelForm


class NewApi(OneApi):
    """new-api.

    Attributes:
        wants_user: a token counts with the id of its user only, as in releases before 2026.
    """

    wants_user = True

    def refusal(self, request: Request) -> Reply | None:
        if self.wants_user and request.headers.get("new-api-user") != "1":
            message = "无权进行此操作，未提供 New-Api-User"
            return Reply({"success": False, "message": message}, 401)
        refused = super().refusal(request)
        return Reply(refused.body, 401) if refused else None

    def admin(self, request: Request) -> Reply:
        if request.line == f"GET {self.prefix}search":
            size = int(request.query.get("page_size", 20))
            rows = [self.shown(one) for one in self.search(request)]
            return self.good({"items": rows[:size], "total": len(rows), "type_counts": {}})
        if request.method == "POST" and request.path.endswith("/status"):
            number = int(request.path.split("/")[-2])
            next(one for one in self.channels if one["id"] == number).update(request.body)
            return self.good()
        return super().admin(request)

    def search(self, request: Request) -> list[dict[str, Any]]:
        return [one for one in self.channels if request.query["keyword"] in one["name"]]

    def add(self, body: dict[str, Any]) -> Reply:
        if "channel" not in body:
            return self.typed("channel_validation_failed", "channel cannot be empty")
        form = AddForm(**body)
        if not form.channel.key:
            return self.typed("channel_validation_failed", "channel cannot be empty")
        if form.mode not in ("single", "batch", "multi_to_single"):
            return self.typed("mode_unsupported", "不支持的添加模式")
        values = form.channel.model_dump(exclude_unset=True)
        self.has(**{**values, "status": values.get("status") or 1})
        return Reply({"success": True, "message": "", "data": None}, 201)

    def typed(self, code: str, message: str) -> Reply:
        return Reply({"success": False, "message": message, "code": code}, 400)

    def change(self, body: dict[str, Any]) -> Reply:
        if "status" in body:
            return self.bad("无效的参数")
        return super().change(body)
