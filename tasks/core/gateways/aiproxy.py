"""AI Proxy (labring/aiproxy), which comes with FastGPT from 4.8.23 on.

Lists are lists here, the address of a model's server ends in /v1, a change replaces the whole
channel, and a test that failed is told as a success with `success: false` inside.
"""

from __future__ import annotations

from urllib.parse import quote

from .channel import MARK, Channel, Fields
from .oneapi import ENABLED, OPENAI, OneApi, called

DEFAULT = "default"
# What a change replaces beside what we set.
KEPT = (
    "key", "model_mapping", "configs", "proxy_url", "priority", "sets",
    "enabled_auto_balance_check", "skip_tls_verify", "enabled_no_permission_ban",
    "warn_error_rate", "max_error_rate",
)  # fmt: skip


class AIProxy(OneApi):
    """A gateway of this kind; its one token is the ADMIN_KEY that it was started with."""

    service = "AI Proxy"

    def fields(self, channel: Channel) -> Fields:
        mapping = {channel.model: channel.served} if channel.model != channel.served else {}
        fields: Fields = {
            "name": channel.name,
            "type": OPENAI,
            "base_url": f"{channel.upstream}/v1",
            "models": [channel.model],
            "model_mapping": mapping,
            "sets": [] if channel.group == DEFAULT else channel.group.split(","),
            "status": ENABLED,
        }
        return fields if channel.priority is None else {**fields, "priority": channel.priority}

    def find(self, name: str) -> list[Fields]:
        data = self.ask("GET", "/api/channels/", name=name, per_page=100)
        return called(data.get("channels") if isinstance(data, dict) else [], name)

    def marked(self, found: Fields) -> str | None:
        owner = (found.get("configs") or {}).get(MARK)
        return "" if owner is True else owner

    def mark(self, found: Fields) -> Fields:
        return {"configs": {**(found.get("configs") or {}), MARK: self.owner}}

    def models(self, found: Fields) -> list[str]:
        return list(map(str, found.get("models") or []))

    def change(self, found: Fields, fields: Fields, key: str) -> None:
        kept = {name: found[name] for name in KEPT if name in found}
        body = {**kept, **fields, **({"key": key} if key else {})}
        self.ask("PUT", f"/api/channel/{found['id']}", body)
        wanted = fields.get("status", found.get("status"))
        if found.get("status") != wanted:
            self.ask("POST", f"/api/channel/{found['id']}/status", {"status": wanted})

    def test(self, found: Fields, model: str) -> None:
        path = f"/api/channel/{found['id']}/test/{quote(model, safe='')}"
        answer = self.ask("GET", path)
        told = answer if isinstance(answer, dict) else {}
        if not told.get("success"):
            said = ", ".join(str(told[part]) for part in ("code", "response") if told.get(part))
            raise self.api.fault(f"the channel does not reach '{model}': {self.api.told(said)}")

    def client_key(self) -> str:
        return self.settings.gateway_key or self.settings.gateway_token

    def cure(self, status: int, said: str) -> str:
        if "model config not found" in said:
            return (
                "start AI Proxy with DISABLE_MODEL_CONFIG=true, or give it a configuration of "
                "the model"
            )
        if status in (401, 403):
            return "set MODELWRIGHT_GATEWAY_TOKEN to the ADMIN_KEY that it was started with"
        return "its log tells more"
