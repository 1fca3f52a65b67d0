"""The loop that a user of transformers and PEFT would write; tests/bench/gpu.py runs it.

gpu_plain.py MODEL_FOLDER ITERATIONS BATCH LENGTH
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from datasets import load_from_disk
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def main() -> None:
    """Train, and note what gpu_hook.py notes."""
    place, iterations, batch, length = Path(sys.argv[1]), *map(int, sys.argv[2:5])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    tokenizer = AutoTokenizer.from_pretrained(place / "base")

    def encode(messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
        ids, labels = tokenizer.encode("<|begin_of_text|>", add_special_tokens=False), [-100]
        for message in messages:
            role = f"<|start_header_id|>{message['role']}<|end_header_id|>"
            text = f"{role}{message['content']}<|eot_id|>"
            new = tokenizer.encode(text, add_special_tokens=False)
            ids += new
            labels += new if message["role"] == "assistant" else [-100] * len(new)
        return ids[:length], labels[:length]

    def collate(rows: list[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
        most = max(len(ids) for ids, _ in rows)

        def padded(values: list[int], filler: int) -> list[int]:
            return values + [filler] * (most - len(values))

        return {
            "input_ids": torch.tensor([padded(ids, 0) for ids, _ in rows]),
            "labels": torch.tensor([padded(labels, -100) for _, labels in rows]),
            "attention_mask": torch.tensor([padded([1] * len(ids), 0) for ids, _ in rows]),
        }

    rows: Any = [encode(row["messages"]) for row in load_from_disk(str(place / "convert"))]
    model = AutoModelForCausalLM.from_pretrained(
        place / "base", torch_dtype=torch.bfloat16, device_map=device, attn_implementation="sdpa"
    )
    model.config.use_cache = False
    lora = LoraConfig(
        r=64, lora_alpha=16, lora_dropout=0.1, target_modules=LAYERS, task_type="CAUSAL_LM"
    )
    model = get_peft_model(model, lora).train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4)
    loader = DataLoader(rows, batch, shuffle=True, collate_fn=collate, num_workers=2)
    for _, data in zip(range(iterations), loader, strict=False):
        tokens = int(data["attention_mask"].sum())
        with torch.autocast(device, torch.bfloat16):
            loss = model(**{name: value.to(device) for name, value in data.items()}).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        memory = torch.cuda.max_memory_allocated() if device == "cuda" else 0
        note = {"time": time.time(), "tokens": tokens, "loss": loss.item(), "memory": memory}
        with Path(f"{os.environ['BENCH_NOTES']}.0").open("a") as file:
            file.write(json.dumps(note) + "\n")


if __name__ == "__main__":
    main()
