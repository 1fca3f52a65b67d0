"""What one line of a dataset means, in each of the forms that datasets come in.

Part of the program convert.py, which runs inside the xtuner toolchain.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

ROLES = ("system", "user", "assistant")
# ShareGPT's words for who speaks.
SPEAKERS = {
    "system": "system", "human": "user", "user": "user", "tool": "user", "observation": "user",
    "function_response": "user", "gpt": "assistant", "assistant": "assistant",
    "function_call": "assistant", "bot": "assistant", "chatgpt": "assistant",
}  # fmt: skip
# The key that holds the conversation, or the text.
KEYS = {
    "agentflan": "conversation", "openai": "messages", "sharegpt": "conversations", "text": "text",
}  # fmt: skip


class Fault(ValueError):
    """What is wrong with a row."""


def parse(line: bytes) -> Any:
    """Return what is in a line of JSON."""
    try:
        return json.loads(decoded(line), object_pairs_hook=_no_twice)
    except json.JSONDecodeError as error:
        raise Fault(f"not JSON at column {error.colno}: {error.msg}") from None
    except Fault:
        raise
    except ValueError:  # of Python's int
        raise Fault("a number has thousands of digits; write it as text") from None
    except RecursionError:
        raise Fault("not JSON that can be read: nested too deep") from None


def decoded(raw: bytes) -> str:
    """Return what bytes say in UTF-8, without a byte order mark."""
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise Fault(f"not UTF-8 at byte {error.start}; save the file as UTF-8") from None


def row(content: Any, form: str) -> dict[str, Any]:
    """Return a row with its conversation as `messages`; `id` goes, the rest stays.

    Of a plain text only `text` stays.
    """
    if not isinstance(content, dict):
        raise Fault('not an object; a row is {"key": value, ...}')
    if form == "text":
        return text(content.get("text"))
    messages, rest = (_alpaca if form == "alpaca" else _chat)(content, form)
    if not isinstance(messages, list) or not messages:
        raise Fault(f"'{KEYS.get(form)}' should be a list of messages")
    for position, message in enumerate(messages):
        _judge(f"{KEYS.get(form, 'messages')}[{position}]", message)
    return {"messages": messages, **rest}


def text(content: Any) -> dict[str, Any]:
    """Return a row of plain text."""
    if not isinstance(content, str) or not content.strip():
        raise Fault("'text' should be text, and not empty")
    return {"text": content}


def check_held(row: dict[str, Any]) -> None:
    """Refuse what JSON can say and a dataset cannot hold."""
    left: list[Any] = [row]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += [*value, *value.values()]
        elif isinstance(value, list):
            left += value
        elif isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise Fault("a number has more than 64 bits; write it as text")
        elif isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError as error:
                half = ascii(value[error.start])
                raise Fault(f"{half} is half a character; correct the text") from None


def _chat(content: dict[str, Any], form: str) -> tuple[Any, dict[str, Any]]:
    key = KEYS[form]
    if key not in content:
        raise Fault(f"no '{key}'; found {', '.join(map(repr, content)) or 'nothing'}")
    rest = {name: value for name, value in content.items() if name not in (key, "id", "messages")}
    messages = content[key]
    if form == "sharegpt" and isinstance(messages, list):
        messages = [_spoken(position, message) for position, message in enumerate(messages)]
        system = rest.pop("system", None)
        if system:
            messages.insert(0, {"role": "system", "content": system})
    return messages, rest


def _spoken(position: int, message: Any) -> dict[str, Any]:
    who = message.get("from") if isinstance(message, dict) else message
    if not isinstance(message, dict) or not isinstance(who, str) or who not in SPEAKERS:
        known = ", ".join(SPEAKERS)
        raise Fault(f"conversations[{position}]: 'from' is {who!r}; one of {known}")
    return {"role": SPEAKERS[who], "content": message.get("value")}


def _alpaca(content: dict[str, Any], form: str) -> tuple[Any, dict[str, Any]]:
    for key in ("instruction", "output"):
        if not isinstance(content.get(key), str):
            raise Fault(f"'{key}' should be text; found {', '.join(map(repr, content))}")
    if not isinstance(content.get("input"), str | None):
        raise Fault("'input' should be text, or left out")
    parts = [content["instruction"], content.get("input")]
    messages = [
        {"role": "user", "content": "\n".join(part for part in parts if part)},
        {"role": "assistant", "content": content["output"]},
    ]
    if content.get("system"):
        messages.insert(0, {"role": "system", "content": content["system"]})
    known = ("instruction", "input", "output", "system", "id")
    return messages, {name: value for name, value in content.items() if name not in known}


def _judge(where: str, message: Any) -> None:
    """Refuse a message that xtuner's openai_map_fn would stumble over, or misread."""
    if not isinstance(message, dict):
        raise Fault(f"{where}: should be an object with 'role' and 'content'")
    if message.get("role") not in ROLES:
        raise Fault(f"{where}: role {message.get('role')!r} is unknown; one of {', '.join(ROLES)}")
    if not isinstance(message.get("content"), str):
        raise Fault(f"{where}: 'content' should be text")
    if str(message.get("loss", True)).lower() not in ("true", "false"):
        raise Fault(f"{where}: 'loss' should be true or false")


def _no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's pairs as a dict; a key given twice would lose one value unseen."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        raise Fault(f"key {twice!r} is given twice in one object")
    return found
