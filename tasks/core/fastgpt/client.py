"""FastGPT's API: its version, its models, a chat.

Models live in its database from 4.8.20 on.  There they are read as one JSON text
(`getConfigJson`), and written one by one; how, changed with 4.17 (flat.py, nested.py).
"""

from __future__ import annotations

import functools
import hashlib
import re
from typing import Any

from ..errors import UserError
from ..settings import Settings
from ..web.api import PATIENT, Answer, Api, chat
from . import records
from .flat import Flat
from .nested import FIRST, Nested
from .records import Record

Version = tuple[int, int, int]

# The first release whose models are in its database.
DATABASE: Version = (4, 8, 20)
ROOT = "root"
INIT = "/api/common/system/getInitData"


class FastGPT:
    """A running FastGPT."""

    def __init__(self, settings: Settings, timeout: float = PATIENT) -> None:
        self.settings = settings
        self._hashed = hashlib.sha256(settings.fastgpt_password.encode()).hexdigest()
        self.api = Api(
            "FastGPT",
            settings.fastgpt_endpoint,
            settings.where("fastgpt_endpoint"),
            secrets=[*settings.secrets, self._hashed],
            timeout=timeout,
        )
        self._known = False

    @property
    def name(self) -> str:
        """FastGPT and its address, as messages begin."""
        return self.api.name

    @property
    def endpoint(self) -> str:
        """Its address."""
        return self.api.endpoint

    def is_up(self) -> bool:
        """Return whether it answers."""
        return self.api.answers(INIT)

    def wait(self, seconds: float) -> None:
        """Wait until it answers."""
        self.api.wait(INIT, seconds)

    def version(self) -> Version | None:
        """Return its version; newer releases tell it only to who has logged in."""
        told = self._init().get("systemVersion")
        if not told and self.settings.fastgpt_password:
            self.log_in()
            told = self._init().get("systemVersion")
        return parse(str(told or ""))

    def listed(self) -> list[dict[str, Any]] | None:
        """Return the chat models that a release up to 4.8.19 has read from its file."""
        found = self._init().get("llmModels")
        return found if isinstance(found, list) else None

    def models(self) -> list[Record]:
        """Return the models in the database: model, metadata, and in newer releases an id."""
        return self._kept.all()

    def model(self, name: str) -> Record | None:
        """Return a model in the database."""
        return next((one for one in self.models() if one.get("model") == name), None)

    def put(self, name: str, metadata: Record) -> None:
        """Add a model to the database or change it; no other is touched.

        Raises:
            UserError: it refuses, or keeps something else.
        """
        self._kept.put(name, metadata, self.models())
        if wrong := records.differences(self.model(name), metadata):
            raise self.api.fault(f"took '{name}' and has another {', '.join(wrong)}")

    def remove(self, found: Record) -> None:
        """Take a model out of the database."""
        self._kept.remove(found)

    def test(self, found: Record) -> None:
        """Have FastGPT chat with a model."""
        self._kept.test(found)

    @functools.cached_property
    def _kept(self) -> Flat | Nested:
        """How this release keeps its models."""
        self.log_in()
        return Nested(self) if (self.version() or DATABASE) >= FIRST else Flat(self)

    def take_over(self) -> None:
        """Have the models of config.json taken into the database (`initv4820`)."""
        with self.api.with_headers(rootkey=self.settings.fastgpt_root_key) as root:
            self.data(root.ask("POST", "/api/admin/initv4820", {}), "POST /api/admin/initv4820")

    def chat(self, question: str) -> str:
        """Return the answer of the application that the key of the settings belongs to."""
        with self.api.with_headers(Authorization=f"Bearer {self.settings.fastgpt_key}") as app:
            return chat(app, "an application", question, "/api/v1/chat/completions")

    def log_in(self) -> None:
        """Log in as root.

        Raises:
            UserError: there is no password, or it is wrong.
        """
        if self._known:
            return
        if not self.settings.fastgpt_password:
            raise UserError(
                f"{self.name}: set MODELWRIGHT_FASTGPT_PASSWORD to the password of its user "
                f"{ROOT} (DEFAULT_ROOT_PSW)"
            )
        body = {"username": ROOT, "password": self._hashed}
        before = self.api.ask("GET", "/api/support/user/account/preLogin", username=ROOT)
        if self.is_good(before):  # releases before 4.9 have no such call
            body["code"] = str(before.body["data"]["code"])
        answer = self.api.ask("POST", "/api/support/user/account/loginByPassword", body)
        token = self.data(answer, "login").get("token")
        if token:
            self.api.secrets.append(str(token))
            self.api.headers["token"] = str(token)
        self._known = True

    def ask(self, method: str, path: str, body: Any = None, **query: str | int) -> Any:
        """Return the data of an answer.

        Raises:
            UserError: it refuses, by status or by the code in the body.
        """
        return self.data(self.api.ask(method, path, body, **query), f"{method} {path}")

    def data(self, answer: Answer, what: str) -> Any:
        """Return the data of an answer, or raise what FastGPT says instead."""
        if self.is_good(answer):
            return answer.body.get("data")
        said = self.api.said(answer)
        cure = "its log tells more"
        if "rootkey" in said or "initv4820" in what:
            cure = "is MODELWRIGHT_FASTGPT_ROOT_KEY its ROOT_KEY?"
        elif what == "login" or answer.status in (401, 403) or "unAuth" in str(answer.body):
            cure = f"is MODELWRIGHT_FASTGPT_PASSWORD the password of its user {ROOT}?"
        raise self.api.fault(f"{what}: {answer.status}, {said}; {cure}")

    @staticmethod
    def is_good(answer: Answer) -> bool:
        """Return whether it does what it was asked, by status and by the code in the body."""
        body = answer.body
        return answer.status == 200 and isinstance(body, dict) and body.get("code", 200) == 200

    def _init(self) -> dict[str, Any]:
        data = self.ask("GET", INIT)
        return data if isinstance(data, dict) else {}


def parse(text: str) -> Version | None:
    """Return the version in a text such as `v4.8.14-fix2`."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None
