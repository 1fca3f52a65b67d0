"""Adapters and bases that different versions of transformers name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.core.errors import UserError
from tests.core.model.test_merging import A, B, adapter, merged, model, numbers

PROJECTION = "layers.0.self_attn.q_proj"
FILE, CLASS = f"language_model.model.{PROJECTION}", f"model.language_model.{PROJECTION}"
CLIP = "encoder.layers.0.self_attn.q_proj"
ONES, ADDED = np.ones((8, 6)), A[0, 0] * B[0, 0] * 4


def factors(*modules: str) -> dict[str, Any]:
    parts = {"lora_A": ("F32", A), "lora_B": ("F32", B)}
    return {f"{module}.{part}.weight": each for module in modules for part, each in parts.items()}


def weights(*modules: str) -> dict[str, Any]:
    return {f"{module}.weight": ("F32", ONES) for module in modules}


@pytest.mark.parametrize(
    ("kind", "base", "tuned"),
    [
        ("llava", FILE, CLASS),
        ("gemma3", FILE, CLASS),
        ("gemma3", FILE, f"model.{PROJECTION}"),
        ("mistral3", CLASS, FILE),
        ("internvl", "vision_tower.encoder.layer.0.fc1", "model.vision_tower.encoder.layer.0.fc1"),
        ("llava", f"vision_tower.vision_model.{CLIP}", f"model.vision_tower.vision_model.{CLIP}"),
        ("llava", f"vision_tower.vision_model.{CLIP}", f"model.vision_tower.{CLIP}"),
        ("mllama", "vision_model.transformer.fc1", "model.vision_model.transformer.fc1"),
        ("qwen2_audio", "multi_modal_projector.linear", "model.multi_modal_projector.linear"),
        ("aya_vision", "language_model.lm_head", "lm_head"),
        ("paligemma", "lm_head", "language_model.lm_head"),
        ("qwen2_vl", f"model.{PROJECTION}", CLASS),
        ("qwen2_5_vl", "visual.blocks.0.attn.qkv", "model.visual.blocks.0.attn.qkv"),
        ("qwen2_5_vl", CLASS, f"model.{PROJECTION}"),
        ("qwen3_5", CLASS, f"model.{PROJECTION}"),
    ],
)
def test_a_module_is_found_by_the_name_that_another_version_gives_it(
    tmp_path: Path, kind: str, base: str, tuned: str
) -> None:
    before = model(tmp_path / "base", weights(base, "norm"), model_type=kind)
    # Rank and alpha are told by the adapter's own names.
    by_name = {"r": 9, "rank_pattern": {f"^{tuned}": 4}, "alpha_pattern": {f"^{tuned}": 16}}
    folder = merged(tmp_path, before, adapter(tmp_path / "adapter", factors(tuned), **by_name))
    found = numbers(folder / "model.safetensors")
    assert found.keys() == {f"{base}.weight", "norm.weight"}
    assert (found[f"{base}.weight"] == 1 + 4 * ADDED).all()
    assert (found["norm.weight"] == 1).all()


def test_all_that_an_adapter_changes_follows_one_table(tmp_path: Path) -> None:
    embedding = "language_model.model.embed_tokens.weight"
    before = {embedding: ("F32", np.ones((8, 6))), f"{FILE}.bias": ("F32", np.ones(8))}
    tensors = {
        **factors(CLASS, "lm_head"),
        f"{CLASS}.lora_B.bias": ("F32", np.ones(8)),
        "model.multi_modal_projector.modules_to_save.weight": ("F32", ONES * 5),
    }
    base = model(
        tmp_path / "base",
        {**before, **weights(FILE, "multi_modal_projector")},
        model_type="gemma3",
    )
    found = numbers(merged(tmp_path, base, adapter(tmp_path / "a", tensors)) / "model.safetensors")
    assert {name: value.flat[0] for name, value in found.items()} == {
        embedding: 1,
        # The head was the embedding, until the adapter changed it.
        "language_model.lm_head.weight": 1 + 2 * ADDED,
        f"{FILE}.weight": 1 + 2 * ADDED,
        f"{FILE}.bias": 3,
        "multi_modal_projector.weight": 5,
    }


OTHER = "layers.1.self_attn.q_proj"


@pytest.mark.parametrize(
    ("kind", "base", "tuned", "complaint"),
    [
        # Of a class that is not known, or by a table of another class.
        ("llama", [FILE], [CLASS], rf"{CLASS}\.weight: the base has no such tensor; name"),
        ("llava", [FILE], [f"model.{PROJECTION}"], rf"model\.{PROJECTION}\.weight: .*tensor; name"),
        # One of two is nowhere.
        ("llava", [FILE], [CLASS, f"model.language_model.{OTHER}"],
         rf"model\.language_model\.{OTHER}\.weight: the base has no .*, nor language_model\.model"),
        # One fits as it is, the other by a table that moves both.
        ("qwen2_vl", ["model.visual.a", "visual.b"], ["model.visual.a", "model.visual.b"],
         r"model\.visual\.b\.weight: the base has no such tensor"),
        # Two would become one.
        ("llava", [FILE], [FILE, CLASS], rf"{CLASS}\.weight: the base has no such tensor; name"),
        # One may be either of two.
        ("llava", ["vision_tower.vision_model.x", "vision_tower.x"], ["model.vision_tower.x"],
         r"vision_tower\.x\.weight and vision_tower\.vision_model\.x\.weight: the base has both"),
    ],
)  # fmt: skip
def test_an_adapter_that_fits_by_no_one_table_is_refused(
    tmp_path: Path, kind: str, base: list[str], tuned: list[str], complaint: str
) -> None:
    before = model(tmp_path / "base", weights(*base), model_type=kind)
    with pytest.raises(UserError, match=complaint):
        merged(tmp_path, before, adapter(tmp_path / "adapter", factors(*tuned)))
    assert not list((tmp_path / "merged").iterdir())


def test_a_name_that_fits_is_taken_as_it_is(tmp_path: Path) -> None:
    before = model(tmp_path / "base", weights(FILE, CLASS), model_type="llava")
    folder = merged(tmp_path, before, adapter(tmp_path / "adapter", factors(CLASS)))
    found = numbers(folder / "model.safetensors")
    assert [found[f"{name}.weight"].flat[0] for name in (FILE, CLASS)] == [1, 1 + 2 * ADDED]
