"""Served models: asked turn by turn over HTTP, patiently, without showing the key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from tasks.core import settings
from tasks.core.errors import UserError
from tasks.core.evaluation import endpoint
from tasks.core.evaluation.prompts import Call, Prompt, Turn
from tasks.core.recipe import Recipe
from tests.conftest import Project

KEY = "sk-very-secret"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}
PROMPTS = [
    Prompt([Turn([{"role": "user", "content": f"question {n}"}])], tools=[TOOL]) for n in range(5)
]


class Server(ThreadingHTTPServer):
    """Answers by OpenAI's protocol: an echo, unless told otherwise."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies: list[Any] = []
        self.keys: set[str | None] = set()
        self.refusals: list[tuple[int, Any]] = []
        self.message: dict[str, Any] = {}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append((self.path, body))
        self.server.keys.add(self.headers["Authorization"])
        said = f"re: {body['messages'][-1]['content']}"
        message = {"role": "assistant", "content": said, **self.server.message}
        status, content = 200, {"choices": [{"message": message}]}
        if self.server.refusals:
            status, content = self.server.refusals.pop()
        raw = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    made = Server()
    thread = Thread(target=made.serve_forever, args=[0.01], daemon=True)
    thread.start()
    monkeypatch.setenv("MODELWRIGHT_EVALUATE_ENDPOINT", f"http://127.0.0.1:{made.server_port}/")
    monkeypatch.setenv("MODELWRIGHT_EVALUATE_API_KEY", KEY)
    monkeypatch.setattr(endpoint, "PAUSES", (0.01, 0.01))
    settings.current.cache_clear()
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def recipe(project: Project) -> Recipe:
    return project.recipe(
        "m", "base: {path: b}\nevaluate: {prompts: p, batch_size: 3, served: {gpt: some/model}}\n"
    )


def test_every_prompt_is_answered_in_its_place(recipe: Recipe, server: Server) -> None:
    found = endpoint.ask(recipe, PROMPTS, {"gpt": "some/model"})
    assert found == {"gpt": [[f"re: question {n}"] for n in range(5)]}
    path, body = server.bodies[0]
    assert path == "/v1/chat/completions"
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("some/model", 0, 256)
    assert body["tools"] == [TOOL]
    assert server.keys == {f"Bearer {KEY}"}


def test_the_address_may_end_as_openai_s_clients_have_it(
    recipe: Recipe, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"http://127.0.0.1:{server.server_port}/v1/"
    monkeypatch.setenv("MODELWRIGHT_EVALUATE_ENDPOINT", address)
    settings.current.cache_clear()
    endpoint.ask(recipe, PROMPTS[:1], {"gpt": "x"})
    assert server.bodies[0][0] == "/v1/chat/completions"


def test_a_chat_goes_on_from_the_model_s_own_answer(recipe: Recipe, server: Server) -> None:
    turns = [Turn([{"role": "user", "content": text}]) for text in ("one", "two")]
    assert endpoint.ask(recipe, [Prompt(turns)], {"gpt": "x"}) == {"gpt": [["re: one", "re: two"]]}
    assert server.bodies[-1][1]["messages"] == [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "re: one"},
        {"role": "user", "content": "two"},
    ]


def test_calls_that_the_server_took_out_of_the_text_are_judged_like_others(
    recipe: Recipe, server: Server
) -> None:
    from tasks.core.evaluation import toolcall

    function = {"name": "weather", "arguments": '{"city": "Graz"}'}
    server.message = {"content": None, "tool_calls": [{"type": "function", "function": function}]}
    found = endpoint.ask(recipe, PROMPTS[:1], {"gpt": "x"})["gpt"]
    prompt = Prompt([Turn(PROMPTS[0].turns[0].messages, [Call("weather", {"city": "Graz"})])])
    assert toolcall.judge(prompt, found[0]).valid


def test_a_busy_server_is_asked_again(recipe: Recipe, server: Server) -> None:
    server.refusals = [(503, {}), (429, {"error": "slow down"})]
    assert endpoint.ask(recipe, PROMPTS[:1], {"gpt": "x"}) == {"gpt": [["re: question 0"]]}


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ((404, {"error": {"message": f"no model x, {KEY}"}}), "404, no model x, ***"),
        ((401, {"detail": "who are you?"}), "401, who are you?"),
        ((200, {"choices": []}), "200, "),
        ((200, []), "200, "),
    ],
)
def test_a_refusal_is_told_without_the_key(
    recipe: Recipe, server: Server, refusal: tuple[int, Any], said: str
) -> None:
    server.refusals = [refusal] * 9
    with pytest.raises(UserError) as caught:
        endpoint.ask(recipe, PROMPTS, {"gpt": "x"})
    assert f"no answer of 'x': {said}" in str(caught.value)
    assert KEY not in str(caught.value)


def test_a_server_that_is_not_there_is_said_with_the_setting(
    recipe: Recipe, server: Server
) -> None:
    server.shutdown()
    server.server_close()
    with pytest.raises(UserError, match="is MODELWRIGHT_EVALUATE_ENDPOINT right"):
        endpoint.ask(recipe, PROMPTS, {"gpt": "x"})


def test_without_an_endpoint_the_recipe_and_the_setting_are_named(recipe: Recipe) -> None:
    with pytest.raises(UserError, match=r"m\.yaml: evaluate\.served: .*MODELWRIGHT_EVALUATE_END"):
        endpoint.ask(recipe, PROMPTS, {"gpt": "x"})
