"""Adapters that other programs trained, with all that they leave beside them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks import adapter, merge
from tasks.core.engine import stage
from tasks.core.errors import UserError
from tasks.core.model import peft
from tests.conftest import Project
from tests.core.model.test_merging import model, numbers, write

LAYER = "base_model.model.model.layers.0.self_attn.q_proj"
A, B = np.full((4, 6), 0.5), np.full((8, 4), 0.25)
BASE = {
    "model.embed_tokens.weight": ("BF16", np.zeros((10, 6))),
    "model.layers.0.self_attn.q_proj.weight": ("BF16", np.ones((8, 6))),
    "lm_head.weight": ("BF16", np.zeros((10, 6))),
}
FACTORS = {f"{LAYER}.lora_A.weight": A, f"{LAYER}.lora_B.weight": B}
# What PEFT 0.21 writes of a LoraConfig, the empty and the odd included.
PEFT = {
    "peft_type": "LORA", "task_type": "CAUSAL_LM", "peft_version": "0.21.2", "r": 4,
    "lora_alpha": 8, "lora_dropout": 0.0, "bias": "none", "inference_mode": True,
    "init_lora_weights": True, "target_modules": ["q_proj"], "modules_to_save": None,
    "target_parameters": None, "trainable_token_indices": None, "exclude_modules": None,
    "layers_to_transform": None, "layers_pattern": None, "layer_replication": None,
    "fan_in_fan_out": False, "use_rslora": False, "use_dora": False, "use_qalora": False,
    "qalora_group_size": 16, "lora_bias": False, "loftq_config": {}, "rank_pattern": {},
    "alpha_pattern": {}, "megatron_config": None, "megatron_core": "megatron.core",
    "arrow_config": None, "eva_config": None, "ensure_weight_tying": False,
}  # fmt: skip
TRAINER = ("training_args.bin", "trainer_state.json", "README.md", "checkpoint-60/optimizer.pt")
HEAD = np.full((10, 6), 3.0)
TOOLS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, ...]]] = {
    "unsloth": (
        {
            "base_model_name_or_path": "unsloth/llama-3-8b-bnb-4bit",
            "auto_mapping": {
                "base_model_class": "LlamaForCausalLM",
                "parent_library": "transformers.models.llama.modeling_llama",
            },
            "loftq_config": None,
        },
        FACTORS,
        ("tokenizer.json", "chat_template.jinja", "special_tokens_map.json"),
    ),
    "unsloth, embeddings trained": (
        {"modules_to_save": ["lm_head", "embed_tokens"]},
        {
            **FACTORS,
            "base_model.model.lm_head.weight": HEAD,
            "base_model.model.model.embed_tokens.weight": HEAD,
        },
        ("tokenizer.json",),
    ),
    "axolotl": (
        {"base_model_name_or_path": "NousResearch/Meta-Llama-3-8B", "layers_to_transform": None},
        FACTORS,
        ("config.json", "tokenizer.json", "merges.txt", "debug.log", "runs/events.out"),
    ),
    "axolotl, named as in training": (
        {"modules_to_save": ["lm_head"]},
        {
            f"{LAYER}.lora_A.default.weight": A,
            f"{LAYER}.lora_B.default.weight": B,
            "base_model.model.lm_head.modules_to_save.default.weight": HEAD,
        },
        ("config.json", "checkpoint-60/global_step60/mp_rank_00_model_states.pt"),
    ),
    "llama-factory": (
        {"base_model_name_or_path": "/models/Llama-3-8B", "lora_alpha": 4, "use_rslora": True},
        FACTORS,
        ("all_results.json", "trainer_log.jsonl", "training_loss.png", "value_head.safetensors"),
    ),
}
KEPT = ("adapter_", "tokenizer", "special_tokens", "merges", "chat_template")


def left(folder: Path, tool: str) -> Path:
    """Write what a tool leaves."""
    config, tensors, beside = TOOLS[tool]
    write(folder / peft.WEIGHTS, {name: ("F32", value) for name, value in tensors.items()})
    (folder / peft.CONFIG).write_text(json.dumps({**PEFT, **config}))
    for name in (*TRAINER, *beside):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"{}")
    return folder


@pytest.mark.parametrize("tool", TOOLS)
def test_what_other_programs_trained_is_merged(project: Project, tmp_path: Path, tool: str) -> None:
    left(project.recipes / "m/theirs", tool)
    folder, out = project.build / "taken", tmp_path / "out"
    for each in (folder, out, tmp_path / "base"):
        each.mkdir(parents=True)
    recipe = project.recipe("m", "base: {path: x}\nadapter: {path: theirs}\n")
    adapter.run(recipe, folder)
    names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    assert {name for name in names if not name.startswith(KEPT)} == set()
    assert {peft.CONFIG, peft.WEIGHTS, *(n for n in TOOLS[tool][2] if n.startswith(KEPT))} == set(
        names
    )
    merge.merge(model(tmp_path / "base", BASE), folder, out, 10**9)
    found = numbers(out / "model.safetensors")
    # 1 + scale * (4 * 0.5 * 0.25); the scale is 2 in all of them.
    assert (found["model.layers.0.self_attn.q_proj.weight"] == 2).all()
    saved = any("lm_head" in name for name in TOOLS[tool][1])
    assert (found["lm_head.weight"] == (HEAD if saved else 0)).all()


def test_tokens_that_were_added_to_the_head_alone_are_refused(tmp_path: Path) -> None:
    grown = {**FACTORS, "base_model.model.lm_head.weight": np.ones((12, 6))}
    write(tmp_path / "a" / peft.WEIGHTS, {name: ("F32", each) for name, each in grown.items()})
    (tmp_path / "a" / peft.CONFIG).write_text(json.dumps(PEFT))
    (tmp_path / "base").mkdir()
    base = model(tmp_path / "base", BASE)
    said = r"lm_head\.weight: 12 tokens, model\.embed_tokens\.weight: 10: the adapter has one of"
    with pytest.raises(UserError, match=said):
        merge.merge(base, tmp_path / "a", tmp_path, 10**9)


def test_patterns_of_the_recipe_take_more_of_an_adapter_s_folder(project: Project) -> None:
    left(project.recipes / "m/theirs", "axolotl")
    recipe = project.recipe("m", "base: {path: x}\nadapter: {path: theirs, allow: ['*.json']}\n")
    folder = project.build / "taken"
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match=r"no adapter_model\.safetensors"):
        adapter.run(recipe, folder)
    assert (folder / "config.json").exists()


def truncated(given: Path) -> None:
    (given / peft.WEIGHTS).write_bytes((given / peft.WEIGHTS).read_bytes()[:99])


def of_another_rank(given: Path) -> None:
    (given / peft.CONFIG).write_text(json.dumps({**PEFT, "r": 16}))


@pytest.mark.parametrize(
    ("spoil", "where", "said"),
    [
        (truncated, peft.WEIGHTS, "byte 0: the header is said to take"),
        (of_another_rank, peft.WEIGHTS, f"{LAYER}.lora_A.weight: rank 4 and 4"),
        (lambda given: (given / peft.CONFIG).unlink(), "", "no adapter_config.json"),
    ],
)
def test_what_is_wrong_with_an_adapter_is_told_of_the_file_that_was_given(
    project: Project, spoil: Callable[[Path], None], where: str, said: str
) -> None:
    """Not of the folder in which the stage worked, which is gone."""
    given = left(project.recipes / "m/theirs", "unsloth")
    spoil(given)
    failed = stage.act(
        "adapter", adapter, project.recipe("m", "base: {path: x}\nadapter: {path: theirs}\n")
    )
    assert failed is not None
    assert str(failed.get_msg()).startswith(f"{given / where}: {said}")
    assert ".adapter-" not in str(failed.get_msg())
