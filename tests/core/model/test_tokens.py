"""Tokens that an adapter's tokenizer has and the base's lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import UserError
from tasks.core.model import tokens

ROWS = 12
VOCABULARY = {f"w{number}": number for number in range(6)}


def tokenizer(last: int, vocabulary: Any = VOCABULARY) -> str:
    """Return a tokenizer.json with the added tokens from 6 to before `last`."""
    added = [{"id": number, "content": f"<t{number}>"} for number in range(6, last)]
    return json.dumps({"added_tokens": added, "model": {"vocab": vocabulary}})


def settings(*added: str) -> str:
    """Return a tokenizer_config.json with added tokens from number 8."""
    numbered = {str(number): {"content": each} for number, each in enumerate(added, 8)}
    return json.dumps({"added_tokens_decoder": numbered})


def folder(path: Path, files: dict[str, str | bytes]) -> Path:
    path.mkdir()
    for name, content in files.items():
        (path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def new(tmp_path: Path, adapter: dict[str, str | bytes], base: dict[str, str | bytes]) -> bool:
    return tokens.are_new(folder(tmp_path / "adapter", adapter), folder(tmp_path / "b", base), ROWS)


BASE: dict[str, str | bytes] = {"tokenizer.json": tokenizer(8)}
SLOW: dict[str, str | bytes] = {"tokenizer.model": b"\n\x07<other>\x15\n\x03<s>\x15"}


@pytest.mark.parametrize(
    ("adapter", "base"),
    [
        ({"tokenizer.json": tokenizer(9)}, BASE),
        ({**BASE, "added_tokens.json": '{"<new>": 8}'}, BASE),
        ({**BASE, "tokenizer_config.json": settings("<new>")}, BASE),
        ({**SLOW, "added_tokens.json": '{"<other": 8}'}, SLOW),
        ({"vocab.json": "{}", "merges.txt": "", "added_tokens.json": '{"<new>": 8}'}, BASE),
        ({"tokenizer.json": tokenizer(14)}, BASE),
        ({**SLOW, "added_tokens.json": r'{"\ud800": 8}'}, SLOW),
    ],
)
def test_tokens_are_new_wherever_they_are_named(tmp_path: Path, adapter: Any, base: Any) -> None:
    assert new(tmp_path, adapter, base)


@pytest.mark.parametrize(
    ("adapter", "base"),
    [
        ({}, BASE),
        (BASE, BASE),
        (BASE, {"tokenizer.json": tokenizer(10)}),
        # No tokenizer: nothing splits the text.
        ({"added_tokens.json": '{"<new>": 8}'}, BASE),
        ({"vocab.json": "{}", "added_tokens.json": '{"<new>": 8}'}, BASE),
        # Without settings there would be no chat template.
        ({"tokenizer.json": tokenizer(9)}, {**BASE, "tokenizer_config.json": "{}"}),
        # A token that was never trained, as when "[PAD]" is added and no row for it.
        ({**BASE, "added_tokens.json": '{"[PAD]": 12}'}, BASE),
        # What the base has elsewhere: newer libraries save more of it as added tokens.
        ({**BASE, "tokenizer_config.json": settings("w1")}, BASE),
        (
            {**BASE, "tokenizer_config.json": settings("<s>")},
            {"tokenizer.json": tokenizer(8, [["<unk>", 0.0], ["<s>", 0.0]])},
        ),
        ({**SLOW, "tokenizer_config.json": settings("<s>")}, SLOW),
        (
            {"vocab.txt": "[CLS]", "tokenizer_config.json": settings("[CLS]", "[MASK]")},
            {"vocab.txt": "[CLS]\nthe\n[MASK]\n"},
        ),
        (
            {**BASE, "tokenizer_config.json": settings("<|endoftext|>")},
            {**BASE, "vocab.json": '{"<|endoftext|>": 0}'},
        ),
    ],
)
def test_what_the_base_knows_or_nothing_can_use_is_not_new(
    tmp_path: Path, adapter: Any, base: Any
) -> None:
    assert not new(tmp_path, adapter, base)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokenizer.json", "version https://git-lfs"),
        ("tokenizer.json", "[]"),
        ("tokenizer.json", '{"added_tokens": [{"id": 8}]}'),
        ("tokenizer.json", "[" * 200_000),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"eight": {"content": "<new>"}}}'),
        ("added_tokens.json", '{"<new>": null}'),
        ("added_tokens.json", '{"<new>": 1e999}'),
    ],
)
def test_a_damaged_tokenizer_is_refused(tmp_path: Path, name: str, content: str) -> None:
    with pytest.raises(UserError, match=rf"adapter/{name}: no file of a tokenizer .*fetch it"):
        new(tmp_path, {**BASE, name: content}, BASE)
