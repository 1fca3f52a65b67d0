"""A model's sizes, out of its config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.core.errors import UserError
from tasks.core.preset import shape

LLAMA: dict[str, Any] = {
    "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "vocab_size": 128256,
    "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "billions"),
    [
        ({}, 8.03),
        ({"tie_word_embeddings": True}, 7.50),
        ({"model_type": "gemma2"}, 7.50),
        ({"model_type": "gemma2", "tie_word_embeddings": False}, 8.03),
        ({"num_key_value_heads": None}, 8.84),
        ({"head_dim": 256}, 8.30),
    ],
)
def test_parameters_are_those_of_the_model(changes: dict[str, Any], billions: float) -> None:
    assert shape.of({**LLAMA, **changes}).parameters / 1e9 == pytest.approx(billions, abs=0.01)


def test_an_adapter_of_rank_64_has_168_million() -> None:
    assert shape.of(LLAMA).adapter(64) == 167_772_160


def test_chatglm_s_own_names_are_known() -> None:
    glm = {
        "model_type": "chatglm", "num_layers": 28, "hidden_size": 4096, "ffn_hidden_size": 13696,
        "padded_vocab_size": 65024, "num_attention_heads": 32, "multi_query_group_num": 2,
    }  # fmt: skip
    found = shape.of(glm)
    assert (found.layers, found.inner, found.keys) == (28, 13696, 256)


@pytest.mark.parametrize("text", ["", "[]", "{}", json.dumps({**LLAMA, "hidden_size": "x"})])
def test_a_config_that_does_not_say_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: train\.preset cannot tell .* batch_size"):
        shape.read(tmp_path / "config.json")
