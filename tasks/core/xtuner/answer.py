"""Answer prompts greedily with one model after another.

    answer.py PROMPTS TOKENS BATCH NAME=MODEL=OUT ...

It runs inside the xtuner toolchain.  PROMPTS has a {"messages": [...]} a line; OUT gets one JSON
string a line, in the same order.  Prints `answered NAME n/N` as it goes.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

DATA_FAULT = 65


def main() -> None:
    """Answer with every model named."""
    prompts, tokens, batch, *models = sys.argv[1:]
    lines = Path(prompts).read_text(encoding="utf-8").split("\n")
    chats = [json.loads(line)["messages"] for line in lines if line.strip()]
    for model in models:
        name, folder, out = model.split("=")
        texts = answers(name, folder, chats, int(tokens), int(batch))
        Path(out).write_text(
            "".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8"
        )


def answers(name: str, folder: str, chats: list[Any], tokens: int, batch: int) -> list[str]:
    """Return a model's answer to every chat."""
    trusted = os.environ.get("XTUNER_TRUST_REMOTE_CODE") == "1"
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trusted)
    if tokenizer.chat_template is None:
        print(f"{folder}: the tokenizer has no chat_template, so the prompts cannot be put to it")
        raise SystemExit(DATA_FAULT)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(
        folder, torch_dtype="auto" if device == "cuda" else torch.float32, trust_remote_code=trusted
    ).to(device)
    model.eval()
    found: list[str] = []
    for start in range(0, len(chats), batch):
        texts = [
            tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
            for chat in chats[start : start + batch]
        ]
        found += generate(model, tokenizer, texts, tokens, device)
        print(f"answered {name} {len(found)}/{len(chats)}", flush=True)
    return found


def generate(model: Any, tokenizer: Any, texts: list[str], tokens: int, device: str) -> list[str]:
    """Return the new text of each prompt, cut at the model's own end."""
    inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    # transformers' generate() tracks no gradients.
    output = model.generate(
        **inputs.to(device),
        max_new_tokens=tokens,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        pad_token_id=tokenizer.pad_token_id,
    )
    new = output[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in tokenizer.batch_decode(new, skip_special_tokens=True)]


if __name__ == "__main__":
    main()
