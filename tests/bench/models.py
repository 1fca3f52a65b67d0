"""Make models of a real shape with random weights, for the benchmarks.

    python -m tests.bench.models FOLDER [LAYERS]

Writes FOLDER/base (Llama-3-8B's shape, bf16, 32 layers unless told) and FOLDER/adapter (r=64 on all
linear layers).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tasks.core import paths
from tasks.core.model import shards
from tasks.core.model.shards import Output

HIDDEN, INNER, VOCABULARY, HEADS, GROUPS, RANK = 4096, 14336, 128256, 32, 8, 64
LINEAR = {
    "self_attn.q_proj": (HIDDEN, HIDDEN),
    "self_attn.k_proj": (HIDDEN * GROUPS // HEADS, HIDDEN),
    "self_attn.v_proj": (HIDDEN * GROUPS // HEADS, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HIDDEN),
    "mlp.gate_proj": (INNER, HIDDEN),
    "mlp.up_proj": (INNER, HIDDEN),
    "mlp.down_proj": (HIDDEN, INNER),
}


def main() -> None:
    folder, layers = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 32
    for name in ("base", "adapter"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    outputs = [random(name, shape) for name, shape in names(layers)]
    shards.write_model(folder / "base", outputs, 5 * 10**9, {})
    (folder / "base/config.json").write_text(json.dumps(config(layers)))
    for path in paths.ROOT.glob("recipes/tiny-agent/base/*token*"):
        shutil.copy(path, folder / "base")
    factors = [random(f"base_model.model.{n}.weight", shape, "F16") for n, shape in lora(layers)]
    shards.write(folder / "adapter/adapter_model.safetensors", factors, {})
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 16, "bias": "none",
        "lora_dropout": 0.1, "base_model_name_or_path": "base",
        "target_modules": [name.split(".")[1] for name in LINEAR],
    }  # fmt: skip
    (folder / "adapter/adapter_config.json").write_text(json.dumps(settings))


def names(layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(layers):
        for name, shape in LINEAR.items():
            yield f"model.layers.{layer}.{name}.weight", shape
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield f"model.layers.{layer}.{name}.weight", (HIDDEN,)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


def lora(layers: int) -> Iterator[tuple[str, tuple[int, int]]]:
    for layer in range(layers):
        for name, (outputs, inputs) in LINEAR.items():
            yield f"model.layers.{layer}.{name}.lora_A", (RANK, inputs)
            yield f"model.layers.{layer}.{name}.lora_B", (outputs, RANK)


def random(name: str, shape: tuple[int, ...], dtype: str = "BF16") -> Output:
    """Return a tensor of numbers from 0.0078 to 0.03, of either sign."""
    low = {"BF16": 0x3C00, "F16": 0x2000}[dtype]
    rest = shape[1] if len(shape) > 1 else 1

    def fill(first: int, last: int, room: memoryview) -> None:
        bits = np.random.default_rng([first, *name.encode()]).integers(
            0, 1 << 16, (last - first) * rest, np.uint16
        )
        bits &= np.uint16(0x80FF if dtype == "BF16" else 0x87FF)
        bits += np.uint16(low)
        room[:] = bits.data.cast("B")

    return Output(name, dtype, shape, fill)


def config(layers: int) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": HIDDEN,
        "intermediate_size": INNER, "num_hidden_layers": layers, "num_attention_heads": HEADS,
        "num_key_value_heads": GROUPS, "vocab_size": VOCABULARY, "torch_dtype": "bfloat16",
        "tie_word_embeddings": False, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
        "max_position_embeddings": 8192, "bos_token_id": 128000, "eos_token_id": 128001,
    }  # fmt: skip


if __name__ == "__main__":
    main()
