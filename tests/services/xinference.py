"""A stand-in for Xinference 4.1.0, and for vLLM: what they answer to our requests, fault by fault.

The answers are those that the real server gave (the real one is asked in tests/test_serve_real.py).
It needs nothing but Python, so that it also runs in a container:

    xinference.py [-H HOST] [-p PORT]            as xinference-local
    xinference.py --model M [--port PORT] ...    as vLLM's server
"""

from __future__ import annotations

import http.server
import json
import os
import re
import secrets
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BUILT_IN = {"tiny-llama": False, "llama-3.1-instruct": True, "qwen2.5-instruct": True}
PREFIX = "[address=127.0.0.1:41797, pid=4711] "
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}


class Refused(Exception):
    """An answer that is an error: status and words."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status, self.words = status, words


@dataclass
class Xinference:
    """What a server knows.

    Attributes:
        users: passwords by name; none, and nobody has to log in.
        keys: API keys, which may ask and chat only.
        version: of the registrations that it takes.
        garbage: paths that are answered by a page of HTML.
    """

    url: str = ""
    users: dict[str, str] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    wants_login: bool = False
    version: int = 2
    registered: dict[str, dict[str, Any]] = field(default_factory=dict)
    running: dict[str, dict[str, Any]] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    garbage: set[str] = field(default_factory=set)
    setup_token: str = field(default_factory=lambda: secrets.token_urlsafe(8))

    def restart(self) -> None:
        """Lose what a restart loses: the models that run."""
        self.running.clear()

    def did(self, *methods: str) -> list[str]:
        """Return the changes that were asked for, as `POST /v1/models`, and forget all requests."""
        wanted = methods or ("POST", "DELETE")
        found = [
            f"{method} {path}"
            for method, path, _ in self.asked
            if method in wanted and not path.startswith(("/v1/chat", "/token"))
        ]
        self.asked.clear()
        return found

    def answer(self, method: str, path: str, body: Any, authorization: str) -> Any:
        self.asked.append((method, path, body))
        free: dict[str, Any] = {
            "/status": dict,
            "/health": dict,
            "/v1/cluster/auth": lambda: {"auth": self.wants_login},
            "/v1/admin/setup/status": lambda: {"needs_setup": self.wants_login and not self.users},
            "/v1/admin/setup": lambda: self._set_up(body),
            "/token": lambda: self._log_in(body),
        }
        if path in free:
            return free[path]()
        self._judge(authorization, method, path)
        folder, _, name = path.rpartition("/")
        known: dict[tuple[str, str], Any] = {
            ("POST", "/v1/model_registrations/LLM"): lambda: self._register(body),
            ("GET", "/v1/model_registrations/LLM"): self._listed,
            ("GET", "/v1/model_registrations/LLM/*"): lambda: self._one(name),
            ("DELETE", "/v1/model_registrations/LLM/*"): lambda: self.registered.pop(name, None),
            ("POST", "/v1/models"): lambda: self._launch(body),
            ("GET", "/v1/models"): self._models,
            ("DELETE", "/v1/models/*"): lambda: self._terminate(name),
            ("POST", "/v1/chat/completions"): lambda: self._chat(body),
        }
        found = known.get((method, path)) or known.get((method, f"{folder}/*"))
        if found is None:
            raise Refused(404, "Not Found")
        return found()

    def _set_up(self, body: Any) -> Any:
        if self.users:
            raise Refused(403, "Setup already completed; an account already exists.")
        if body.get("setup_token") != self.setup_token:
            raise Refused(403, "Invalid setup token.")
        if len(body["password"]) < 8:
            raise Refused(400, "Password must be at least 8 characters")
        self.users[body["username"]] = body["password"]
        return {"id": 1, "username": body["username"]}

    def _log_in(self, body: Any) -> Any:
        if self.users.get(body["username"]) != body["password"]:
            raise Refused(401, "Incorrect username or password")
        token = secrets.token_urlsafe(8)
        self.tokens.add(token)
        return {"access_token": token, "refresh_token": "r", "token_type": "bearer"}

    def _judge(self, authorization: str, method: str, path: str) -> None:
        token = authorization.removeprefix("Bearer ")
        if not self.wants_login or token in self.tokens:
            return
        if token not in self.keys:
            raise Refused(401, "Could not validate credentials")
        if method != "GET" and not path.startswith("/v1/chat"):
            raise Refused(403, "API keys can only access model query and inference endpoints")

    def _listed(self) -> Any:
        return [
            *({"model_name": name, "is_builtin": True} for name in BUILT_IN),
            *({"model_name": name, "is_builtin": False} for name in self.registered),
        ]

    def _one(self, name: str) -> Any:
        if name in BUILT_IN:
            return {"model_name": name, "is_builtin": True, "model_description": "built in"}
        if name not in self.registered:
            raise Refused(400, f"{PREFIX}Model {name} not found")
        return {**self.registered[name], "is_builtin": False}

    def _register(self, body: Any) -> Any:
        if not isinstance(body["model"], str):
            raise Refused(500, "")
        spec = json.loads(body["model"])
        name, family = spec["model_name"], spec.get("model_family")
        if spec["version"] != self.version:
            raise Refused(400, f"{PREFIX}1 validation error\nversion\n  unexpected value")
        if ("quantizations" in spec["model_specs"][0]) != (self.version == 1):
            raise Refused(400, f"{PREFIX}1 validation error\nquantization\n  field required")
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
            raise Refused(400, f"{PREFIX}Invalid model name {name}.")
        if not family:
            raise Refused(400, f"{PREFIX}You must specify `model_family`")
        if "tools" in spec["model_ability"] and not BUILT_IN.get(family):
            words = "`model_family` for tool call model must be one of the following values: \n"
            raise Refused(400, f"{PREFIX}{words}llama-3.1-instruct, qwen2.5-instruct")
        if name in self.registered or name in BUILT_IN:
            raise Refused(400, f"{PREFIX}Model {name} already registered")
        uri = spec["model_specs"][0]["model_uri"]
        if not Path(uri).is_dir():
            raise Refused(400, f"{PREFIX}Invalid model URI {uri}.")
        # In the place of a missing template, the family's name.
        spec["chat_template"] = spec.get("chat_template") or family
        self.registered[name] = spec
        return None

    def _terminate(self, uid: str) -> Any:
        if self.running.pop(uid, None) is None:
            raise Refused(400, f"{PREFIX}Model not found in the model list, uid: {uid}")

    def _launch(self, body: Any) -> Any:
        spec = self.registered.get(body["model_name"])
        uid = body["model_uid"]
        if spec is None:
            raise Refused(400, f"{PREFIX}Model not found, name: {body['model_name']}")
        if uid in self.running:
            raise Refused(400, f"{PREFIX}Model is already in the model list, uid: {uid}")
        if body["model_engine"] != "transformers":
            words = f"Model {body['model_name']} cannot be run on engine {body['model_engine']}."
            raise Refused(400, f"{PREFIX}{words}")
        if isinstance(body["n_gpu"], int):
            raise Refused(400, f"{PREFIX}The parameter `n_gpu` must be greater than 0 and not ...")
        self.running[uid] = {
            "id": uid,
            "model_name": spec["model_name"],
            "model_description": spec["model_description"],
            "model_ability": spec["model_ability"],
            "model_engine": body["model_engine"],
            "replica": body["replica"],
            "template": spec["chat_template"],
            "parser": spec.get("tool_parser"),
        }
        return {"model_uid": uid}

    def _models(self) -> Any:
        hidden = ("template", "parser")
        data = [
            {key: value for key, value in model.items() if key not in hidden}
            for model in self.running.values()
        ]
        return {"object": "list", "data": data}

    def _chat(self, body: Any) -> Any:
        model = self.running.get(body["model"])
        if model is None:
            raise Refused(404, f"{PREFIX}Model not found in the model list, uid: {body['model']}")
        tools = body.get("tools")
        if tools and "tools" not in model["model_ability"]:
            raise Refused(400, f"{PREFIX}Only {{'qwen2.5-instruct'}} support tool calls")
        calls = [CALL] if tools and model["parser"] else []
        words = "" if calls else f"from {len(model['template'])} letters of a template"
        message = {"role": "assistant", "content": words, "tool_calls": calls}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}


class _Handler(http.server.BaseHTTPRequestHandler):
    served: Xinference

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _respond(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path, status, kind = self.path.partition("?")[0], 200, "application/json"
        try:
            given = self.headers.get("Authorization", "")
            body = self.served.answer(self.command, path, json.loads(raw or b"null"), given)
            sent = json.dumps(body).encode()
        except Refused as error:
            status, sent = error.status, json.dumps({"detail": error.words}).encode()
        if path in self.served.garbage:
            status, sent, kind = 502, b"<html>Bad Gateway</html>", "text/html"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    do_GET = do_POST = do_DELETE = _respond  # noqa: N815


def server(served: Xinference, host: str, port: int) -> http.server.ThreadingHTTPServer:
    """Return a web server that answers as a server does."""
    handler = type("Handler", (_Handler,), {"served": served})
    return http.server.ThreadingHTTPServer((host, port), handler)


@contextmanager
def running(**values: Any) -> Iterator[Xinference]:
    """Serve while the block runs."""
    served = Xinference(**values)
    web = server(served, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{web.server_port}"
    threading.Thread(target=web.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield served
    finally:
        web.shutdown()
        web.server_close()


def vllm(name: str, key: str) -> Xinference:
    """Return what answers as vLLM does, which serves one model and knows no registrations."""
    served = Xinference(wants_login=bool(key), keys={key})
    shown = {"id": name, "model_ability": ["tools"], "template": "t", "parser": "hermes"}
    served.running[name] = shown
    return served


def main() -> None:
    """Serve as a program."""
    words = sys.argv[1:]

    def option(*names: str, default: str) -> str:
        found = [words[words.index(name) + 1] for name in names if name in words]
        return found[0] if found else default

    if "--served-model-name" in words:
        served = vllm(option("--served-model-name", default=""), os.environ.get("VLLM_API_KEY", ""))
        port = option("--port", default="8000")
    else:
        served = Xinference(wants_login=os.environ.get("XINFERENCE_AUTH_ADVANCED") == "true")
        port = option("-p", default="9997")
        print(f"  Setup token: {served.setup_token}", flush=True)
    server(served, option("-H", "--host", default="127.0.0.1"), int(port)).serve_forever()


if __name__ == "__main__":
    main()
