"""Answer prompts greedily with one model after another.

    answer.py CHATS TOKENS BATCH [NAME MODEL OUT] ...

It runs inside the xtuner toolchain.  CHATS has `{"turns": [[message, ...], ...], "tools": [...]}` a
line; OUT gets a JSON list of texts a line, one text a turn, in the same order.  Prints
`answered NAME n/N` as it goes.
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
    path, tokens, batch, *models = sys.argv[1:]
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    chats = [json.loads(line) for line in lines if line.strip()]
    for name, folder, out in zip(models[::3], models[1::3], models[2::3], strict=True):
        found = answers(name, folder, chats, int(tokens), int(batch))
        text = "".join(json.dumps(texts, ensure_ascii=False) + "\n" for texts in found)
        # Whole or not at all: what is there when another model fails is kept.
        Path(f"{out}.new").write_text(text, encoding="utf-8")
        Path(f"{out}.new").rename(out)


def answers(name: str, folder: str, chats: list[Any], tokens: int, batch: int) -> list[list[str]]:
    """Return a model's answers to every chat, one a turn; each turn goes on from the last."""
    tokenizer, model, device = load(folder)
    found: list[list[str]] = [[] for _ in chats]
    told: list[list[Any]] = [[] for _ in chats]
    count, done = sum(len(chat["turns"]) for chat in chats), 0
    for turn in range(max(len(chat["turns"]) for chat in chats)):
        left = [at for at, chat in enumerate(chats) if len(chat["turns"]) > turn]
        for start in range(0, len(left), batch):
            part = left[start : start + batch]
            for at in part:
                told[at] += chats[at]["turns"][turn]
            texts = [prompt(tokenizer, told[at], chats[at]["tools"]) for at in part]
            for at, text in zip(
                part, generate(model, tokenizer, texts, tokens, device), strict=True
            ):
                found[at].append(text)
                told[at].append({"role": "assistant", "content": text})
            done += len(part)
            print(f"answered {name} {done}/{count}", flush=True)
    return found


def load(folder: str) -> tuple[Any, Any, str]:
    """Return a model's tokenizer, the model, and the device that it is on."""
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
    return tokenizer, model, device


def prompt(tokenizer: Any, messages: list[Any], tools: list[Any]) -> str:
    """Return a chat as the model's own template writes it, up to where the answer begins."""
    text: str = tokenizer.apply_chat_template(
        messages, tools=tools or None, tokenize=False, add_generation_prompt=True
    )
    return text


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
