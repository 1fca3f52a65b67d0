"""What a server must know of a model, from the forms in which models tell it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import UserError
from tasks.core.serving import chatmodel


def model(folder: Path, **files: Any) -> Path:
    """Write JSON files; the names are without their ending."""
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "files",
    [
        {"tokenizer_config": {"chat_template": "T"}},
        {"tokenizer_config": {}, "chat_template": {"chat_template": "T"}},
        {"tokenizer_config": {"chat_template": [
            {"name": "tool_use", "template": "U"}, {"name": "default", "template": "T"}]}},
        {"tokenizer_config": {"chat_template": [{"name": "rag", "template": "T"}]}},
    ],
)  # fmt: skip
def test_the_template_is_found_in_every_place(tmp_path: Path, files: dict[str, Any]) -> None:
    assert chatmodel.chat_template(model(tmp_path, **files)) == "T"


def test_a_template_in_a_file_of_its_own_wins(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("T")
    model(tmp_path, tokenizer_config={"chat_template": "old"})
    assert chatmodel.chat_template(tmp_path) == "T"


def test_no_template_is_told_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no chat template.*serve\.chat_template"):
        chatmodel.chat_template(model(tmp_path, tokenizer_config={"chat_template": None}))


ADDED = {"added_tokens": [{"id": 4, "content": "<|eot_id|>"}, {"id": 7, "content": "<|eom|>"}]}


@pytest.mark.parametrize(
    ("files", "stop"),
    [
        ({"tokenizer": ADDED, "tokenizer_config": {"eos_token": "<|eot_id|>"}}, {4: "<|eot_id|>"}),
        (
            {"tokenizer": ADDED, "tokenizer_config": {"eos_token": {"content": "<|eot_id|>"}}},
            {4: "<|eot_id|>"},
        ),
        (
            {
                "tokenizer": ADDED,
                "tokenizer_config": {"eos_token": "<|eot_id|>"},
                "generation_config": {"eos_token_id": [7, 4]},
            },
            {4: "<|eot_id|>", 7: "<|eom|>"},
        ),
        (
            {
                "tokenizer_config": {
                    "eos_token": "</s>",
                    "added_tokens_decoder": {"2": {"content": "</s>"}},
                }
            },
            {2: "</s>"},
        ),
        ({"config": {"eos_token_id": 2}}, {2: ""}),
        ({}, {}),
    ],
)
def test_what_ends_an_answer(tmp_path: Path, files: dict[str, Any], stop: dict[int, str]) -> None:
    assert dict(chatmodel.stop_tokens(model(tmp_path, **files))) == stop


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"config\.json: .*fetch the file again"):
        chatmodel.read(tmp_path)


def test_the_default_model_is_read_whole() -> None:
    found = chatmodel.read(Path("recipes/tiny-agent/base"))
    assert found.stop == {4: "<|eot_id|>"}
    assert found.architectures == ("LlamaForCausalLM",)
    assert "<|start_header_id|>" in found.chat_template
    assert 1_200_000 < found.parameters < 1_300_000
