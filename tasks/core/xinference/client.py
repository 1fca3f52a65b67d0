"""The part of Xinference's REST API that we need."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from .. import settings
from ..web.api import PATIENT, Answer, Api, refusal

# Answers of 400 and 404 begin with an address and a process that change with every start.
ADDRESS = re.compile(r"^\[address=[^\]]*\]\s*")
REGISTRATIONS = "/v1/model_registrations/LLM"


class Client(Api):
    """An Xinference that we may use.

    Args:
        endpoint: its address, without /v1.
        timeout: how many seconds an answer may take.
    """

    def __init__(self, endpoint: str, timeout: float = PATIENT) -> None:
        found = settings.current()
        self.user, self.password = found.xinference_user, found.xinference_password
        self.key = found.xinference_api_key
        secrets = (self.password, self.key)
        where = "MODELWRIGHT_XINFERENCE_ENDPOINT"
        super().__init__("Xinference", endpoint, where, secrets=secrets, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def authorize(self) -> None:
        """Log in where the server wants that; since 3.0 it does unless it is told otherwise.

        Raises:
            UserError: it wants to know who we are, and the settings do not say, or wrongly.
        """
        answer = self.ask("GET", "/v1/cluster/auth")
        if answer.status == 404 or not _value(answer, "auth"):
            return
        if self.user and self.password:
            login = {"username": self.user, "password": self.password}
            answer = self.ask("POST", "/token", login)
            token = _value(answer, "access_token")
            if not token:
                raise self.fault(
                    f"{self.said(answer)}; set MODELWRIGHT_XINFERENCE_USER and "
                    "MODELWRIGHT_XINFERENCE_PASSWORD to an account there"
                )
            self.secrets.append(token)
        elif self.key:
            token = self.key
        else:
            raise self.fault(
                "it wants a login; set MODELWRIGHT_XINFERENCE_USER and "
                "MODELWRIGHT_XINFERENCE_PASSWORD to an account there"
            )
        self.headers["Authorization"] = f"Bearer {token}"

    def registration(self, name: str) -> dict[str, Any] | None:
        """Return the registration of a model, built-in ones too, or None."""
        answer = self.ask("GET", f"{REGISTRATIONS}/{quote(name)}")
        if answer.status in (400, 404) or (answer.status == 200 and answer.body is None):
            return None
        return dict(self._good(answer, "the registration cannot be read"))

    def register(self, registration: str) -> Answer:
        """Register a model so that it stays registered; return the answer, good or not."""
        return self.ask("POST", REGISTRATIONS, {"model": registration, "persist": True})

    def unregister(self, name: str) -> None:
        """Remove a registration; one that is not there is no fault to Xinference."""
        self._good(self.ask("DELETE", f"{REGISTRATIONS}/{quote(name)}"), f"'{name}' stays")

    def running(self, uid: str) -> dict[str, Any] | None:
        """Return what is told of a running model, or None."""
        listed = self._good(self.ask("GET", "/v1/models"), "models cannot be listed")
        models = listed["data"] if isinstance(listed, dict) and "data" in listed else []
        return next((dict(model) for model in models if model.get("id") == uid), None)

    def is_used(self) -> bool:
        """Return whether any model runs, or any is registered that is not built in."""
        listed = self._good(self.ask("GET", "/v1/models"), "models cannot be listed")
        known = self._good(self.ask("GET", REGISTRATIONS), "registrations cannot be listed")
        return bool(listed["data"]) or not all(model["is_builtin"] for model in known)

    def launch(self, **values: Any) -> None:
        """Launch a model and wait until it is there."""
        uid = values["model_uid"]
        self._good(self.ask("POST", "/v1/models", values), f"'{uid}' does not start")

    def terminate(self, uid: str) -> None:
        """End a running model."""
        self._good(self.ask("DELETE", f"/v1/models/{quote(uid)}"), f"'{uid}' does not stop")

    def who_may(self) -> str:
        """Return who may register and launch models, for a message about a refusal."""
        key = "an API key may only ask; " if self.key and not self.password else ""
        return (
            f"{key}set MODELWRIGHT_XINFERENCE_USER and MODELWRIGHT_XINFERENCE_PASSWORD to an "
            "account that may register and launch models"
        )

    def said(self, answer: Answer) -> str:
        """Return Xinference's words about a failure, without what changes from run to run."""
        text = ADDRESS.sub("", self.masked(refusal(answer.body) or str(answer.body)))
        return " ".join(text.split())[:600]

    def _good(self, answer: Answer, what: str) -> Any:
        if answer.status < 400:
            return answer.body
        if answer.status in (401, 403):
            raise self.fault(f"{what}: {self.said(answer)}; {self.who_may()}")
        raise self.fault(f"{what}: {self.said(answer)}")


def _value(answer: Answer, name: str) -> Any:
    return answer.body.get(name) if isinstance(answer.body, dict) else None
