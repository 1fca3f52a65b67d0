"""FastGPT as its sources have it: 4.8.14 with its file, 4.8.23 to 4.17 with a database."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.core.fastgpt import json5
from tests.services.jsonserver import HTML, Reply, Request, Service

PASSWORD, ROOT_KEY, KEY = "password-of-a-test", "root-key-of-a-test", "fastgpt-key-of-a-test"
COOKIE = "session-of-a-test"
HIDDEN = ("customCQPrompt", "customExtractPrompt", "defaultSystemChatPrompt")
DEPRECATED = ("datasetProcess", "usedInClassify", "usedInExtractFields", "usedInToolCall")


class Entry(BaseModel):
    """packages/global/core/ai/model.d.ts of 4.8.14, LLMModelItemType: a model of config.json.

    FastGPT takes what it is given; here another name or type is refused, so that a slip is seen.
    """

    model_config = ConfigDict(strict=True, extra="forbid")

    model: str = ""
    name: str = ""
    maxContext: int = 0  # noqa: N815
    maxResponse: int = 0  # noqa: N815
    quoteMaxToken: int = 0  # noqa: N815
    maxTemperature: float | None = None  # noqa: N815
    charsPointsPrice: float | None = None  # noqa: N815
    censor: bool | None = None
    vision: bool | None = None
    datasetProcess: bool | None = None  # noqa: N815
    usedInClassify: bool | None = None  # noqa: N815
    usedInExtractFields: bool | None = None  # noqa: N815
    usedInToolCall: bool | None = None  # noqa: N815
    usedInQueryExtension: bool | None = None  # noqa: N815
    functionCall: bool = False  # noqa: N815
    toolChoice: bool = False  # noqa: N815
    customCQPrompt: str = ""  # noqa: N815
    customExtractPrompt: str = ""  # noqa: N815
    defaultSystemChatPrompt: str | None = None  # noqa: N815
    defaultConfig: dict[str, Any] | None = None  # noqa: N815


class Record(Entry):
    """LLMModelItemType from 4.8.20 on: a model of the database."""

    type: Literal["llm"] = "llm"
    provider: str = ""
    isActive: bool | None = None  # noqa: N815
    isCustom: bool | None = None  # noqa: N815


# LLMModelItemSchema of 4.16: what is not in it, and not optional there, is not kept.
SCHEMA = {
    "type", "provider", "model", "name", "isActive", "isCustom", "charsPointsPrice", "maxContext",
    "maxResponse", "quoteMaxToken", "maxTemperature", "censor", "vision", "functionCall",
    "toolChoice", "defaultSystemChatPrompt", "defaultConfig", "datasetProcess", "usedInClassify",
    "usedInExtractFields", "usedInToolCall",
}  # fmt: skip
REQUIRED = {
    "type", "provider", "model", "name", "maxContext", "maxResponse", "quoteMaxToken",
    "functionCall", "toolChoice",
}  # fmt: skip


class Config(BaseModel):
    """LLMModelConfigSchema of 4.17."""

    model_config = ConfigDict(strict=True, extra="forbid")

    maxContext: int = 0  # noqa: N815
    maxResponse: int = 0  # noqa: N815
    quoteMaxToken: int = 0  # noqa: N815
    maxTemperature: float | None = None  # noqa: N815
    censor: bool | None = None
    vision: bool | None = None
    functionCall: bool | None = None  # noqa: N815
    toolChoice: bool | None = None  # noqa: N815
    defaultSystemChatPrompt: str | None = None  # noqa: N815
    defaultConfig: dict[str, Any] | None = None  # noqa: N815


class Document(BaseModel):
    """LLMSystemModelDocumentSchema of 4.17, as far as it is asked for here."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: Literal["llm"]
    provider: str = ""
    name: str
    model: str | None = None
    isActive: bool | None = None  # noqa: N815
    charsPointsPrice: float | None = None  # noqa: N815
    config: Config


class FastGPT(Service):
    """FastGPT.

    Attributes:
        config: its config.json, read when it starts.
        database: its models, as `system_models` has them.
        reachable: the models that its gateway has.
        answers: what an application of its says.
    """

    def __init__(self, version: str, config: Path | None = None) -> None:
        super().__init__()
        self.version, self.config = version, config
        self.number = tuple(map(int, version.split(".")))
        self.listed: list[dict[str, Any]] = []
        self.database: list[dict[str, Any]] = []
        self.reachable = {"m", "llama-3-instruct"}
        self.answers = "Four."
        self.is_up = True
        self.restarts = 0

    @property
    def by_id(self) -> bool:
        """Whether models have ids, and people have to log in with a code."""
        return self.number >= (4, 14, 0)

    @property
    def in_database(self) -> bool:
        return self.number >= (4, 8, 20)

    @property
    def models_at(self) -> str:
        """Where the calls for models are: from 4.17.0 to 4.17.2 in a place of their own."""
        is_apart = (4, 17) <= self.number < (4, 17, 3)
        return "/api/admin/settings/model/" if is_apart else "/api/core/ai/model/"

    def restart(self) -> None:
        """Read the file again; a broken one leaves the old models, as the source does."""
        self.restarts += 1
        self.is_up = True
        self.listed = self._from_file()

    def _from_file(self) -> list[dict[str, Any]]:
        if not self.config or not self.config.exists():
            return []
        return list(json5.parse(self.config.read_text()).value.get("llmModels") or [])

    def reply(self, request: Request) -> Reply:
        if request.line == "POST /__restart":
            self.restart()
            return self.good()
        if not self.is_up:
            return Reply(HTML, 502)
        calls = {
            "/api/common/system/getInitData": self.init,
            "/api/support/user/account/preLogin": self.pre_login,
            "/api/support/user/account/loginByPassword": self.login,
            "/api/admin/initv4820": self.take_over,
            "/api/v1/chat/completions": self.chat,
        }
        if call := calls.get(request.path):
            return call(request)
        if self.in_database and request.path.startswith(self.models_at):
            if not self.is_root(request):
                return self.bad("unAuthorization", 403)
            admin = self.nested if self.number >= (4, 17) else self.admin
            return admin(request, request.path.rpartition("/")[2])
        return Reply(HTML, 404)

    def good(self, data: Any = None) -> Reply:
        return Reply({"code": 200, "statusText": "", "message": "", "data": data})

    def bad(self, message: str, code: int = 500) -> Reply:
        """Return a refusal: its code is in the body, the status is 500 for all."""
        body = {"code": code, "statusText": "error", "message": message, "data": None}
        return Reply(body, 500)

    def is_root(self, request: Request) -> bool:
        cookie = f"fastgpt_token={COOKIE}" in request.headers.get("cookie", "")
        return cookie or request.headers.get("token") == COOKIE

    def init(self, request: Request) -> Reply:
        known = {"bufferId": "b", "feConfigs": {"systemTitle": "FastGPT"}}
        if not self.in_database:
            shown = [{**one, **dict.fromkeys(HIDDEN, "")} for one in self.listed]
            return self.good({**known, "systemVersion": self.version, "llmModels": shown})
        if self.is_root(request):
            return self.good({**known, "systemVersion": self.version})
        return self.good({"bufferId": "unAuth_b", "feConfigs": known["feConfigs"]})

    def pre_login(self, request: Request) -> Reply:
        return self.good({"code": "abc123"}) if self.by_id else Reply(HTML, 404)

    def login(self, request: Request) -> Reply:
        body = request.body
        if self.by_id and body.get("code") != "abc123":
            return self.bad("common:error.invalidParams")
        hashed = hashlib.sha256(PASSWORD.encode()).hexdigest()
        if (body["username"], body["password"]) != ("root", hashed):
            return self.bad("account_psw_error")
        reply = self.good({"user": {"username": "root"}, "token": COOKIE})
        reply.headers["Set-Cookie"] = f"fastgpt_token={COOKIE}; Path=/; HttpOnly; Samesite=Strict"
        return reply

    def take_over(self, request: Request) -> Reply:
        """Take config.json into the database: every model of it, whatever people had changed."""
        if request.headers.get("rootkey") != ROOT_KEY:
            return self.bad("unAuthorization", 403)
        for one in self._from_file():
            self.keep(one["model"], {**one, "type": "llm", "isActive": True})
        return self.good({"success": True})

    def find(self, value: str) -> dict[str, Any] | None:
        key = "id" if self.by_id else "model"
        return next((one for one in self.database if one[key] == value), None)

    def keep(self, model: str, metadata: dict[str, Any]) -> None:
        dropped = DEPRECATED if self.by_id else ()
        values = {k: v for k, v in metadata.items() if v is not None and k not in dropped}
        if self.number >= (4, 16):
            values = {k: v for k, v in values.items() if k in SCHEMA}
        there = next((one for one in self.database if one["model"] == model), None)
        if there:
            there["metadata"] = values
            return
        new = {"id": f"id{len(self.database)}"} if self.by_id else {}
        self.database.append({**new, "model": model, "metadata": values})

    def admin(self, request: Request, call: str) -> Reply:
        given = {**request.query, **(request.body or {})}
        try:
            Record(**given.get("metadata", {}))
        except ValidationError as error:
            return self.bad(f"not as the sources have it: {error}")
        if call == "getConfigJson":
            return self.good(json.dumps(self.database, indent=2))
        if call == "create" and self.by_id:
            if not (given.get("model") and given["metadata"].get("name")):
                return self.bad("model and metadata are required")
            self.keep(given["model"], given["metadata"])
            return self.good({"id": self.database[-1]["id"]})
        if call == "update" and not self.by_id:
            there = self.find(given["model"]) or {"metadata": {}}
            self.keep(given["model"].strip(), {**there["metadata"], **given["metadata"]})
            return self.good({})
        found = self.find(given.get("id" if self.by_id else "model", ""))
        if found is None:
            return self.bad("Model not found")
        if call == "update":
            self.keep(found["model"], {**found["metadata"], **given["metadata"]})
        elif call == "delete":
            self.database.remove(found)
        elif call == "test" and found["model"] not in self.reachable:
            return self.bad(f"当前分组 default 下对于模型 {found['model']} 无可用渠道")
        return self.good({})

    def nested(self, request: Request, call: str) -> Reply:
        """Answer as from 4.17 on: by id, with what a request needs in `config`."""
        body = request.body or {}
        if call == "getConfigJson":
            return self.good(json.dumps([self.document(one) for one in self.database]))
        if self.number >= (4, 17, 3) and {**request.query, **body}.get("channelType") != "system":
            return self.bad("channelType: Required")
        if "modelData" in body:
            return self.write(body, call)
        # Deletion is of the ids in the body; the first releases read one in the query.
        ids = body.get("modelIds", []) if self.number > (4, 17, 0) else []
        found = self.find(ids[0] if ids else request.query.get("modelId", ""))
        if found is None:
            return self.bad("modelUnExist")
        if call == "delete":
            self.database.remove(found)
        elif call == "test" and found["model"] not in self.reachable:
            return self.bad(f"当前分组 default 下对于模型 {found['model']} 无可用渠道")
        return self.good()

    def write(self, body: dict[str, Any], call: str) -> Reply:
        """Create or change a model; its name in a change is wanted first, and forbidden later."""
        try:
            form = Document(**body["modelData"]).model_dump(exclude_unset=True)
        except ValidationError as error:
            return self.bad(f"not as the sources have it: {error}")
        found = self.find(body.get("modelId", "")) or {"model": form.get("model"), "metadata": {}}
        wants_name = call == "create" or self.number == (4, 17, 0)
        if ("model" in form) != wants_name:
            return self.bad("model: Invalid input")
        config = form.pop("config")
        beside = {k: v for k, v in found["metadata"].items() if k not in Config.model_fields}
        self.keep(found["model"], {**beside, **form, **config})
        return self.good({"modelId": self.database[-1]["id"]} if call == "create" else None)

    def document(self, kept: dict[str, Any]) -> dict[str, Any]:
        """Return a model of the database as it is told."""
        values = kept["metadata"]
        config = {k: v for k, v in values.items() if k in Config.model_fields}
        beside = {k: v for k, v in values.items() if k not in config}
        named = {"modelId": kept["id"], "scope": "system", "model": kept["model"]}
        return {**beside, **named, "config": config}

    def chat(self, request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return self.bad("unAuthApiKey", 514)
        message = {"role": "assistant", "content": self.answers}
        return Reply({"id": "", "model": "", "choices": [{"message": message, "index": 0}]})
