"""Ask a model that a server answers for, by OpenAI's protocol, in the place of local weights."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .. import console, settings
from ..errors import UserError
from ..recipe import Recipe, present
from ..sections import Evaluate
from ..web.api import Api
from . import toolcall
from .answers import Answers
from .prompts import Prompt

PATH = "/v1/chat/completions"
# Seconds before a server that is busy is asked again.
PAUSES = (1.0, 4.0, 15.0)
BUSY = frozenset({429, 500, 502, 503, 504})


def ask(recipe: Recipe, prompts: Sequence[Prompt], models: Mapping[str, str]) -> dict[str, Answers]:
    """Return what served models answer, each by its name in the report.

    Args:
        models: what the endpoint calls them, by the names in the report.

    Raises:
        UserError: no endpoint is set, or it does not answer.
    """
    found = settings.current()
    if not found.evaluate_endpoint:
        raise UserError(
            f"{recipe.file}: evaluate.served: no endpoint to ask; set MODELWRIGHT_EVALUATE_ENDPOINT"
        )
    secret = found.evaluate_api_key
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    where = found.where("evaluate_endpoint")
    # OpenAI's own clients are given the address with /v1.
    address = found.evaluate_endpoint.rstrip("/").removesuffix("/v1")
    with Api("the endpoint", address, where, headers=headers, secrets=[secret]) as api:
        return {
            name: _ask_one(api, present(recipe.evaluate), prompts, name, model)
            for name, model in models.items()
        }


def _ask_one(
    api: Api, evaluate: Evaluate, prompts: Sequence[Prompt], name: str, model: str
) -> Answers:
    found: Answers = []
    pool = ThreadPoolExecutor(evaluate.batch_size)
    try:
        work = [pool.submit(_chat, api, model, prompt, evaluate) for prompt in prompts]
        for each in work:
            found.append(each.result())
            console.status(f"answered {name} {len(found)}/{len(prompts)}")
    finally:
        pool.shutdown(cancel_futures=True)
        console.clear()
    return found


def _chat(api: Api, model: str, prompt: Prompt, evaluate: Evaluate) -> list[str]:
    """Return the answers to a prompt's turns; each turn goes on from the last."""
    told: list[Any] = []
    texts: list[str] = []
    for turn in prompt.turns:
        told += turn.messages
        body = {
            "model": model,
            "messages": told,
            "max_tokens": evaluate.max_new_tokens,
            "temperature": 0,
            **({"tools": list(prompt.tools)} if prompt.tools else {}),
        }
        message = _message(api, model, body)
        texts.append(_text(message))
        told = [*told, {"role": "assistant", "content": texts[-1]}]
    return texts


def _message(api: Api, model: str, body: dict[str, Any]) -> dict[str, Any]:
    """Return the message that answers; a server that is busy is asked again."""
    for pause in (*PAUSES, 0.0):
        answer = api.ask("POST", PATH, body)
        if answer.status not in BUSY or not pause:
            break
        time.sleep(pause)
    try:
        return dict(answer.body["choices"][0]["message"])
    except (LookupError, TypeError, ValueError):
        raise api.fault(f"no answer of '{model}': {answer.status}, {api.said(answer)}") from None


def _text(message: Mapping[str, Any]) -> str:
    """Return what was said as one text, with the calls that the server took out of it."""
    calls = [each.get("function") or {} for each in message.get("tool_calls") or []]
    parts = [
        str(message.get("content") or ""),
        *(toolcall.written(str(c.get("name")), str(c.get("arguments") or "{}")) for c in calls),
    ]
    return "\n".join(part for part in parts if part).strip()
