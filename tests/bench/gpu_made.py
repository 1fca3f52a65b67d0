"""Models of well-known shapes with random weights, and conversations, for tests/bench/gpu.py.

Part of that script; it runs inside the xtuner toolchain.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

Shapes = dict[str, tuple[int, ...]]
COMMON = {"torch_dtype": "bfloat16", "tie_word_embeddings": False, "hidden_act": "silu"}
SHAPES: dict[str, dict[str, Any]] = {
    "8b": {  # Llama-3-8B
        **COMMON, "model_type": "llama", "architectures": ["LlamaForCausalLM"],
        "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 8192,
    },
    "32b": {  # Qwen2.5-32B
        **COMMON, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"],
        "vocab_size": 152064, "hidden_size": 5120, "intermediate_size": 27648,
        "num_hidden_layers": 64, "num_attention_heads": 40, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "max_position_embeddings": 32768,
    },
    "70b": {  # Llama-3-70B
        **COMMON, "model_type": "llama", "architectures": ["LlamaForCausalLM"],
        "vocab_size": 128256, "hidden_size": 8192, "intermediate_size": 28672,
        "num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 8192,
    },
    "1b": {  # Llama-3.2-1B, with a last layer of its own
        **COMMON, "model_type": "llama", "architectures": ["LlamaForCausalLM"],
        "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192,
        "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 8192,
    },
    "tiny": {  # to try the script without a GPU
        **COMMON, "model_type": "llama", "architectures": ["LlamaForCausalLM"],
        "vocab_size": 8200, "hidden_size": 64, "intermediate_size": 160,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "max_position_embeddings": 2048,
    },
}  # fmt: skip
WORDS = 8000
SPECIAL = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<unk>")


def make(place: Path, shape: str, conversations: int, words: int) -> None:
    """Write a model as base/ and a dataset as convert/.

    Args:
        words: the mean of a conversation; their lengths spread around it.
    """
    config = SHAPES[shape]
    (place / "base").mkdir(parents=True)
    (place / "base" / "config.json").write_text(json.dumps(config))
    _weights(place / "base", config)
    _tokenizer(place / "base")
    _conversations(place / "convert", conversations, words)


def _weights(folder: Path, config: dict[str, Any]) -> None:
    """Write a file for each layer, several at a time; all draw on one block of random numbers."""
    d, f, v = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    k = d * config["num_key_value_heads"] // config["num_attention_heads"]
    # Its length divides no matrix, so that rows differ.
    block = (torch.randn(16_777_213, generator=torch.Generator().manual_seed(0)) * 0.02).bfloat16()
    parts: list[Shapes] = [
        {"model.embed_tokens.weight": (v, d), "model.norm.weight": (d,)},
        {"lm_head.weight": (v, d)},
    ]
    for number in range(config["num_hidden_layers"]):
        at = f"model.layers.{number}"
        part: Shapes = {
            f"{at}.self_attn.q_proj.weight": (d, d),
            f"{at}.self_attn.k_proj.weight": (k, d),
            f"{at}.self_attn.v_proj.weight": (k, d),
            f"{at}.self_attn.o_proj.weight": (d, d),
            f"{at}.mlp.gate_proj.weight": (f, d),
            f"{at}.mlp.up_proj.weight": (f, d),
            f"{at}.mlp.down_proj.weight": (d, f),
            f"{at}.input_layernorm.weight": (d,),
            f"{at}.post_attention_layernorm.weight": (d,),
        }
        if config["model_type"] == "qwen2":
            part[f"{at}.self_attn.q_proj.bias"] = (d,)
            part[f"{at}.self_attn.k_proj.bias"] = (k,)
            part[f"{at}.self_attn.v_proj.bias"] = (k,)
        parts.append(part)
    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(partial(_file, folder, block), range(len(parts)), parts))
    index = {name: file for file, names in done for name in names}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {}, "weight_map": index})
    )


def _file(folder: Path, block: torch.Tensor, number: int, part: Shapes) -> tuple[str, list[str]]:
    from safetensors.torch import save_file

    name = f"model-{number:05}.safetensors"
    tensors = {}
    for key, shape in part.items():
        if key.endswith("norm.weight"):
            tensors[key] = torch.ones(shape, dtype=torch.bfloat16)
        else:
            count = int(np.prod(shape))
            tensors[key] = block.repeat(-(-count // len(block)))[:count].view(shape)
    save_file(tensors, folder / name, metadata={"format": "pt"})
    return name, list(part)


def _tokenizer(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = [f"w{number}" for number in range(WORDS)] + ["system", "user", "assistant"]
    vocabulary = {name: number for number, name in enumerate([*SPECIAL, *names])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=SPECIAL[0],
        eos_token=SPECIAL[3],
        unk_token="<unk>",
        additional_special_tokens=list(SPECIAL[1:3]),
    ).save_pretrained(folder)


def _conversations(folder: Path, count: int, words: int) -> None:
    """Write conversations of some turns, with words as unevenly frequent as in real text."""
    from datasets import Dataset

    random = np.random.default_rng(0)
    chances = 1 / (np.arange(WORDS) + 10)
    drawn = random.choice(WORDS, size=count * words * 3, p=chances / chances.sum())
    names = np.array([f"w{number}" for number in range(WORDS)])[drawn]
    rows, at = [], 0
    for total in np.clip(random.normal(words, words * 0.4, count), 24, words * 1.9).astype(int):
        turns = 2 * int(random.integers(1, 4))
        messages = []
        for turn in range(turns):
            text = " ".join(names[at : at + total // turns])
            at += total // turns
            messages.append({"role": "assistant" if turn % 2 else "user", "content": text})
        rows.append(messages)
    Dataset.from_dict({"messages": rows}).save_to_disk(str(folder))


if __name__ == "__main__":
    make(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
