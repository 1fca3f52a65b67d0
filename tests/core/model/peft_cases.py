"""Small models with adapters of every kind, made and judged by PEFT.

    peft_cases.py make|judge FOLDER

Runs in the xtuner toolchain.  `judge` wants FOLDER/<case>/merged beside base and adapter: it must
answer like base + adapter, and be nowhere farther from float64 than what PEFT merges.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)
from transformers.utils.logging import disable_progress_bar

ATTENTION = ["q_proj", "v_proj"]
CASES: dict[str, dict[str, Any]] = {
    "plain": {"r": 8, "target_modules": [*ATTENTION, "down_proj"]},
    "rslora": {"r": 5, "use_rslora": True, "target_modules": ATTENTION},
    "dora": {"r": 4, "use_dora": True, "target_modules": [*ATTENTION, "up_proj"]},
    "patterns": {
        "r": 4, "target_modules": ATTENTION, "rank_pattern": {"layers.0.self_attn.q_proj": 7},
        "alpha_pattern": {"v_proj": 3},
    },
    "biases": {"r": 4, "bias": "all", "target_modules": ATTENTION},
    "lora_bias": {"r": 4, "lora_bias": True, "target_modules": ATTENTION},
    "head": {"r": 4, "target_modules": [*ATTENTION, "lm_head"]},
    "embedding": {"r": 4, "target_modules": [*ATTENTION, "embed_tokens"]},
    "embedding_dora": {"r": 4, "use_dora": True, "target_modules": ["embed_tokens"]},
    "saved": {"r": 4, "target_modules": ATTENTION, "modules_to_save": ["lm_head", "embed_tokens"]},
    "saved_tied": {"r": 4, "target_modules": ATTENTION, "modules_to_save": ["embed_tokens"]},
    "grown": {"r": 4, "target_modules": ATTENTION, "modules_to_save": ["lm_head", "embed_tokens"]},
    "grown_tied": {"r": 4, "target_modules": ATTENTION},
    "grown_head": {"r": 4, "target_modules": [*ATTENTION, "embed_tokens", "lm_head"]},
    "shrunk_dora": {"r": 4, "use_dora": True, "target_modules": ["embed_tokens", "lm_head"]},
    "gpt2": {"r": 4, "target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True},
    "gpt2_dora": {"r": 4, "use_dora": True, "target_modules": ["c_proj"], "fan_in_fan_out": True},
}  # fmt: skip
# How many tokens there are in training, where that is not the base's 120.
TOKENS = {"grown": 130, "shrunk": 113}
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def base(case: str) -> Any:
    torch.manual_seed(len(case))
    if case.startswith("gpt2"):
        return GPT2LMHeadModel(GPT2Config(n_embd=48, n_head=4, n_layer=2, vocab_size=120))
    return LlamaForCausalLM(
        LlamaConfig(
            hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
            vocab_size=120, tie_word_embeddings=case in ("embedding", "saved_tied", "grown_tied"),
            attention_bias=case in ("biases", "lora_bias"),
        )
    )  # fmt: skip


def make(folder: Path) -> None:
    for number, (case, options) in enumerate(CASES.items()):
        # Every case in one type, the plain one in all of them.
        for name in DTYPES if case == "plain" else [list(DTYPES)[number % len(DTYPES)]]:
            place, dtype = folder / f"{case}-{name}", DTYPES[name]
            most = "60KB" if case == "plain" else "5GB"
            base(case).to(dtype).save_pretrained(place / "base", max_shard_size=most)
            model = start(place, dtype)
            tuned = get_peft_model(model, LoraConfig(lora_alpha=8, **options))
            for key, parameter in tuned.named_parameters():
                if parameter.requires_grad:
                    noise = torch.randn(parameter.shape) * 0.05
                    scaled = parameter.data * (1 + noise.abs()) if "magnitude" in key else None
                    parameter.data = (parameter.data + noise if scaled is None else scaled).to(
                        parameter.dtype
                    )
            tuned.save_pretrained(place / "adapter")
            (place / "adapter/tokenizer.json").write_text("{}")


def start(place: Path, dtype: torch.dtype) -> Any:
    """Return the base as it is when training starts."""
    model = AutoModelForCausalLM.from_pretrained(place / "base", torch_dtype=dtype)
    tokens = TOKENS.get(place.name.partition("-")[0].partition("_")[0])
    if tokens:
        model.resize_token_embeddings(tokens)
    return model


def judge(folder: Path) -> None:
    faults = []
    for place in sorted(folder.iterdir()):
        name = place.name.rsplit("-", 1)[1]
        fault = answers(place) or distances(place, DTYPES[name])
        if fault:
            faults.append(f"{place.name}: {fault}")
    print("\n".join(faults))
    raise SystemExit(bool(faults))


def answers(place: Path) -> str:
    """Compare the answers of base + adapter and of the merged model, both widened to float32."""
    ids = torch.arange(3, 110).reshape(1, -1)
    both = PeftModel.from_pretrained(start(place, torch.float32), place / "adapter").eval()
    merged = AutoModelForCausalLM.from_pretrained(place / "merged", torch_dtype=torch.float32)
    room = {"f32": 2e-5, "f16": 2e-2, "bf16": 0.15}[place.name.rsplit("-", 1)[1]]
    with torch.no_grad():
        expected, found = both(ids).logits, merged.eval()(ids).logits
    far = ((expected - found).abs().max() / expected.std()).item()
    return f"answers differ by {far:.2g} deviations" if far > room else ""


def distances(place: Path, dtype: torch.dtype) -> str:
    """Compare with a merge in float64; our error may not exceed PEFT's but by float32's sums."""
    exact, theirs = (weights(place, kind) for kind in (torch.float64, dtype))
    ours: dict[str, torch.Tensor] = {}
    for path in sorted((place / "merged").glob("*.safetensors")):
        ours.update(load_file(path))
    for key, value in ours.items():
        # PEFT adds what belongs to the embedding to the head as well, where the two are tied;
        # base + adapter does not, and nor do we.
        if place.name.startswith("embedding-") and key == "lm_head.weight":
            continue
        if key not in exact:
            return f"{key} is extra"
        far, peft = (value.double() - exact[key]).abs(), (theirs[key].double() - exact[key]).abs()
        room = 4e-6 * exact[key].abs().max()
        if not (far <= peft + room).all():
            return f"{key} is farther from float64 than PEFT's by {(far - peft).max():.2g}"
    return ""


def weights(place: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    model = start(place, dtype)
    tuned = PeftModel.from_pretrained(model, place / "adapter", autocast_adapter_dtype=False)
    if dtype == torch.float64:
        tuned = tuned.double()
    return dict(tuned.merge_and_unload().state_dict())


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    disable_progress_bar()
    {"make": make, "judge": judge}[sys.argv[1]](Path(sys.argv[2]))
