"""One chat question and one tool question, asked of a model that is served."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from ..evaluation import toolcall
from ..recipe import Recipe
from ..web.api import Answer, Api

ANSWERS = "answers.json"
CHAT = [{"role": "user", "content": "Hello, who are you?"}]
WEATHER = [{"role": "user", "content": "What is the weather in Oslo on Sunday?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather of a day in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "day": {"type": "string"}},
            "required": ["city", "day"],
        },
    },
}
# Agent-FLAN's own form, for models that find tools in their prompt.
IN_PROMPT = [
    {
        "role": "system",
        "content": "You can use external tools:\nweather(city, day)\nTo use a tool:\n"
        "Thought: your thought\nAction: tool name\nAction Input: JSON\nElse:\n"
        "Thought: your thought\nFinal Answer: answer\nBegin!",
    },
    *WEATHER,
]
MAX_TOKENS = 128
# Right after its start a server may still say that the model is being loaded.
PATIENCE = 60.0


def ask(api: Api, model: str, recipe: Recipe, *, tools: bool) -> list[dict[str, Any]]:
    """Return both questions with their answers, the shortest way to greedy ones.

    Args:
        tools: whether the server takes OpenAI's `tools`; else the tools are in the prompt.

    Raises:
        UserError: there is no answer.
    """
    question = WEATHER if tools else prompt(recipe)
    return [
        _asked(api, {"model": model, "messages": CHAT}),
        _asked(api, {"model": model, "messages": question, **({"tools": [TOOL]} if tools else {})}),
    ]


def write(folder: Path, answers: list[dict[str, Any]]) -> None:
    """Write the questions and their answers."""
    text = json.dumps(answers, indent=1, ensure_ascii=False) + "\n"
    (folder / ANSWERS).write_text(text, encoding="utf-8")


def prompt(recipe: Recipe) -> list[dict[str, str]]:
    """Return a question with tools in it: the first held-out one of the recipe, if it has any."""
    path = recipe.beside(recipe.evaluate.prompts) if recipe.evaluate else None
    try:
        lines = path.read_text(encoding="utf-8").split("\n") if path else []
        rows = [json.loads(line) for line in lines if line.strip()]
        wanted = [row for row in rows if (row.get("expect") or {}).get("tool")]
        return list(wanted[0]["messages"])
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return IN_PROMPT


def _asked(api: Api, request: dict[str, Any]) -> dict[str, Any]:
    """Ask until the model is ready to answer; return question and answer."""
    body = {**request, "max_tokens": MAX_TOKENS, "temperature": 0, "stream": False}
    end = time.monotonic() + PATIENCE
    while True:
        answer = api.ask("POST", "/v1/chat/completions", body)
        if answer.status < 500 or time.monotonic() > end:
            return {"question": request["messages"], **_told(api, answer)}
        time.sleep(2)


def _told(api: Api, answer: Answer) -> dict[str, Any]:
    try:
        message = answer.body["choices"][0]["message"]
        text, calls = message.get("content") or "", message.get("tool_calls") or []
        called = [call["function"]["name"] for call in calls]
    except (LookupError, TypeError, AttributeError):
        raise api.fault(f"no answer: {answer.status}, {api.said(answer)}") from None
    called = called or [tool for tool, _ in toolcall.calls(text)]
    return {"answer": text, "called": called}
