"""Xinference 4.1.0 for real: its own toolchain, on this machine's CPU, without and with a login.

One test asks everything while a server is up, as a start takes half a minute.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks.core import paths
from tasks.core.toolchains import toolchain
from tests.conftest import doit
from tests.services import oneapi
from tests.services.oneapi import OneApi
from tests.services.process import free_port

# Everything of one test together; a machine that is busy is given time, one that hangs is not.
LIMIT = 400.0
XINFERENCE, GATEWAY = "MODELWRIGHT_XINFERENCE", "MODELWRIGHT_GATEWAY"
EVALUATE = "MODELWRIGHT_EVALUATE_ENDPOINT"
# How many held-out prompts the server is asked.
COUNT = 12


@pytest.fixture(scope="session")
def interpreter() -> str:
    """Return an interpreter with Xinference: the one of the settings, or our own toolchain."""
    done = doit("toolchain:xinference", build=None)
    assert done.returncode == 0, done.stderr
    return toolchain.python("xinference")


class Model:
    """A model to serve, its server's port, and doit."""

    def __init__(self, folder: Path, built: Path, interpreter: str) -> None:
        self.build, self.recipes, self.port = folder / "build", folder / "recipes", free_port()
        for stage in ("base", "adapter", "merge"):
            place = self.recipes / "tiny" / stage
            place.mkdir(parents=True)
            for path in (built / stage).iterdir():
                if path.name != "manifest.json":
                    (place / path.name).symlink_to(path.resolve())
        self.url = f"http://127.0.0.1:{self.port}"
        self.options = {
            "MODELWRIGHT_SERVE_PORT": str(self.port),
            "MODELWRIGHT_TOOLCHAIN_XINFERENCE": interpreter,
            "MODELWRIGHT_DEFAULT": "tiny",
            "MODELWRIGHT_SERVE_TIMEOUT": str(LIMIT),
        }
        self.serve("{name: tiny-tools, tool_parser: qwen}")

    def serve(self, part: str, source: str = "base: {path: merge}", more: str = "") -> None:
        """Write the recipe."""
        text = f"{source}\nserve: {part}\n{more}"
        (self.recipes / "tiny.yaml").write_text(text)

    def evaluate(self, count: int) -> list[Any]:
        """Have the server answer held-out prompts in the place of the weights; return the rows."""
        lines = (paths.ROOT / "recipes/tiny-agent/prompts.jsonl").read_text().splitlines(True)
        (self.recipes / "tiny/prompts.jsonl").write_text("".join(lines[:count]))
        part = "{prompts: prompts.jsonl, max_new_tokens: 72, batch_size: 4, served: {base: tiny}}"
        self.serve("{name: tiny}", more=f"evaluate: {part}\n")
        self.doit("evaluate:tiny", options={**self.options, EVALUATE: f"{self.url}/v1"})
        self.serve("{name: tiny}")
        report = json.loads((self.build / "tiny/evaluate/report.json").read_text())
        return list(report["prompts"])

    def doit(self, *words: str, status: int = 0, options: dict[str, str] | None = None) -> str:
        """Run doit; return what it prints."""
        values = self.options if options is None else options
        done = doit(*words, build=self.build, recipes=self.recipes, **values)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def behind_a_gateway(self, options: dict[str, str]) -> dict[str, Any]:
        """Have a gateway reach the model; return its channel."""
        made = OneApi()
        self.serve("{name: tiny}", more="gateway: {}\n")
        with made.running():
            there = {f"{GATEWAY}_ENDPOINT": made.url, f"{GATEWAY}_TOKEN": oneapi.TOKEN}
            self.doit("gateway:tiny", options={**options, **there})
        self.serve("{name: tiny}")
        return made.channels[0]

    def made(self, name: str) -> Any:
        return json.loads((self.build / "tiny/serve" / name).read_text())

    def ask(self, path: str) -> Any:
        return httpx.get(f"{self.url}{path}").json()

    def served(self) -> list[str]:
        return [one["id"] for one in self.ask("/v1/models")["data"]]

    def api_key(self, user: str, password: str) -> str:
        """Return a new API key of an account."""
        login = {"username": user, "password": password}
        token = httpx.post(f"{self.url}/token", json=login).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        made = httpx.post(f"{self.url}/v1/admin/keys", json={"name": "k"}, headers=headers)
        return str(made.json()["key"])

    def process(self) -> int:
        note = self.build / f".servers/modelwright-xinference-{self.port}/process.json"
        return int(json.loads(note.read_text())["pid"])


@pytest.fixture
def model(tmp_path: Path, tiny: Path, interpreter: str) -> Iterator[Model]:
    """The default recipe's merged model, to be served; its server is stopped in the end."""
    made = Model(tmp_path, tiny, interpreter)
    yield made
    made.options.pop(f"{XINFERENCE}_ENDPOINT", None)
    doit("unship:tiny", build=made.build, recipes=made.recipes, **made.options)


def members(session: int) -> list[int]:
    """Return the live processes of a session."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[3] == str(session) and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_a_model_is_served_lost_found_out_repaired_and_taken_away(model: Model, tiny: Path) -> None:
    started = time.monotonic()
    model.doit("ship:tiny")
    assert model.served() == ["tiny-tools"]
    spec = model.ask("/v1/model_registrations/LLM/tiny")
    own = json.loads((model.recipes / "tiny/merge/tokenizer_config.json").read_text())
    assert spec["chat_template"] == own["chat_template"]
    assert spec["stop_token_ids"] == [4]
    assert model.made("answers.json")[0]["answer"]
    first = model.made("manifest.json")

    before = time.monotonic()
    assert "-- serve:tiny" in model.doit("ship:tiny")
    assert time.monotonic() - before < 3

    # Base and adapter apart, under another name, with tools in the prompt: the tuned model calls.
    apart = "base: {path: base}\nadapter: {path: adapter}"
    model.serve("{name: tiny, weights: adapter}", apart)
    model.doit("ship:tiny")
    assert model.served() == ["tiny"]
    assert model.made("answers.json")[1]["called"]

    # The merged model in its place.
    model.serve("{name: tiny}")
    model.doit("ship:tiny")
    assert model.made("answers.json")[1]["called"]
    assert model.made("manifest.json")["facts"]["uid"] != first["facts"]["uid"]

    # Asked by OpenAI's protocol, it answers as the weights did that xtuner asked.
    rows = model.evaluate(COUNT)
    weights = json.loads((tiny / "evaluate/report.json").read_text())["prompts"][:COUNT]
    assert [row["base"]["answer"] for row in rows] == [row["tuned"]["answer"] for row in weights]

    # Killed, it leaves children that hold its port; and from here on it wants a login.
    session = model.process()
    os.kill(session, signal.SIGKILL)
    assert members(session)
    assert "is not running" in model.doit("plan", "serve:tiny", status=1)
    model.options |= {f"{XINFERENCE}_USER": "admin", f"{XINFERENCE}_PASSWORD": "let-me-in"}
    said = model.doit("ship:tiny")
    assert "tiny launched with transformers" in said
    assert "registered" not in said, "the registration outlived the server"
    assert members(session) == []
    assert model.ask("/v1/models") == {"detail": "Could not validate credentials"}

    # As an endpoint of others: a wrong password is told, an API key will do where all is done.
    model.options[f"{XINFERENCE}_ENDPOINT"] = model.url
    key = model.api_key("admin", "let-me-in")
    wrong = {**model.options, f"{XINFERENCE}_PASSWORD": "not-the-one"}
    said = model.doit("serve:tiny", status=1, options=wrong)
    assert "Incorrect username or password" in said
    assert "not-the-one" not in said
    keyed = {**model.options, f"{XINFERENCE}_PASSWORD": "", f"{XINFERENCE}_API_KEY": key}
    model.doit("serve:tiny", options=keyed)
    assert "0 to run" in model.doit("plan", "serve:tiny", options=keyed)
    channel = model.behind_a_gateway(keyed)
    assert (channel["models"], channel["key"]) == ("tiny", key)
    model.serve("{name: tiny, context_length: 512}")
    assert "an API key may only ask" in model.doit("serve:tiny", status=1, options=keyed)
    assert "registration tiny removed" in model.doit("unship:tiny")

    session = model.process()
    del model.options[f"{XINFERENCE}_ENDPOINT"]
    assert "stopped" in model.doit("unship:tiny")
    assert members(session) == []
    assert not (model.build / "tiny/serve").exists()
    texts = [path.read_bytes() for path in model.build.rglob("*") if path.is_file()]
    assert not any(secret in text for secret in (b"let-me-in", key.encode()) for text in texts)
    assert time.monotonic() - started < LIMIT
