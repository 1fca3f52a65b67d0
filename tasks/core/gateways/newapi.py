"""new-api (QuantumNous/new-api), which grew out of One API.

Channels are added in a wrapper with a mode, answered with 201; a change may not name the status,
which has a call of its own; a token counts only together with the id of its user.
"""

from __future__ import annotations

from typing import Any

from .channel import NO_KEY, Fields
from .oneapi import OneApi

# The user that is made at the first start.
ROOT = "1"


class NewApi(OneApi):
    """A gateway of this kind."""

    service = "new-api"

    def add(self, fields: Fields, key: str) -> None:
        channel = {name: value for name, value in fields.items() if name != "status"}
        body = {"mode": "single", "channel": {**channel, **self.mark({}), "key": key or NO_KEY}}
        self.ask("POST", "/api/channel/", body)

    def change(self, found: Fields, fields: Fields, key: str) -> None:
        body = {name: value for name, value in fields.items() if name != "status"}
        super().change(found, body, key)
        wanted = fields.get("status", found.get("status"))
        if found.get("status") != wanted:
            self.ask("POST", f"/api/channel/{found['id']}/status", {"status": wanted})

    def show(self, token: str, user: str) -> None:
        self.api.headers["Authorization"] = f"Bearer {token}"
        # Releases before 2026 refuse a token without its user's id.
        self.api.headers["New-Api-User"] = user if user.isdigit() else ROOT

    def greet(self, data: Any) -> None:
        told = data if isinstance(data, dict) else {}
        self.api.headers["New-Api-User"] = str(told.get("id", ROOT))
        # Newer releases have no cookie.
        if token := told.get("access_token") or told.get("token"):
            self.api.secrets.append(str(token))
            self.api.headers["Authorization"] = f"Bearer {token}"
