"""Train tiny-agent's tokenizer and base model from nothing but a seed.

`python pretrain.py OUT` takes about ten minutes on one free core, and gives the same bytes each
time on the same machine; `--steps N` stops after the first N steps and prints their losses.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import chats
import start
import torch
import vocabulary
import words
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

# Repetition, then the skills, then the skills mixed with requests and small talk.
PHASES = dict(zip(chats.PHASES, (300, 500, 900), strict=True))
STEPS = sum(PHASES.values())
ROWS, LENGTH = 8, 256
RATE, WARM_UP, DECAY_FROM = 2e-3, 50, 0.6
# What the other side says cannot be foreseen, but a little of it keeps this a model of language.
PROMPT_WEIGHT = 0.1
Weighted = tuple[str, float]


def pieces(turns: list[chats.Message], is_chat: bool) -> list[Weighted]:
    """Return a text in parts, each with the weight of its loss."""
    parts: list[Weighted] = [(vocabulary.BOS, 0.0)]
    for turn in turns:
        weight = 1.0 if turn["role"] == "assistant" else PROMPT_WEIGHT
        header, said = "", turn["content"]
        if is_chat:
            header, said = vocabulary.turn(turn["role"], said)
        parts += [(header, PROMPT_WEIGHT), (said, weight)]
    return parts


def make_tokenizer() -> Tokenizer:
    """Return the tokenizer, trained on the first texts of each phase."""
    sample = [
        turn["content"]
        for phase in PHASES
        for turns in islice(chats.base_texts(phase), 2000)
        for turn in turns
    ]
    # Often enough that each of these words becomes one token.
    return vocabulary.train(sample + 300 * [" ".join(words.TERMS)])


def batches(tokenizer: Tokenizer, phase: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield token numbers and their weights, texts laid end to end."""
    numbers: list[int] = []
    weights: list[float] = []
    size = ROWS * LENGTH
    for turns in chats.base_texts(phase):
        for text, weight in pieces(turns, is_chat=phase != "repetition"):
            encoded = tokenizer.encode(text, add_special_tokens=False).ids
            numbers += encoded
            weights += [weight] * len(encoded)
        while len(numbers) >= size:
            yield (
                torch.tensor(numbers[:size]).view(ROWS, LENGTH),
                torch.tensor(weights[:size]).view(ROWS, LENGTH),
            )
            numbers, weights = numbers[size:], weights[size:]


def configuration() -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary.SIZE,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        rope_theta=500000.0,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=4,
        pad_token_id=1,
    )


def rate(step: int) -> float:
    """Return the learning rate: a short rise, level, then down to nothing."""
    left = (STEPS - step) / (STEPS * (1 - DECAY_FROM))
    return RATE * min(1.0, (step + 1) / WARM_UP, left)


def loss_of(model: LlamaForCausalLM, numbers: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=numbers).logits[:, :-1].flatten(0, 1)
    each = cross_entropy(logits, numbers[:, 1:].flatten(), reduction="none")
    told = weights[:, 1:].flatten()
    return (each * told).sum() / told.sum()


def train(model: LlamaForCausalLM, tokenizer: Tokenizer, steps: int) -> Iterator[float]:
    """Train step by step and yield each step's loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.98))
    plan = [phase for phase, count in PHASES.items() for _ in range(count)]
    streams = {phase: batches(tokenizer, phase) for phase in PHASES}
    for step, phase in enumerate(plan[:steps]):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        loss = loss_of(model, *next(streams[phase]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield loss.item()


def first_steps(count: int) -> list[float]:
    """Return the losses of the first steps of a fresh training."""
    torch.set_num_threads(1)
    return list(train(start.model(configuration(), chats.SEED), make_tokenizer(), count))


def write(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.generation_config = GenerationConfig(
        bos_token_id=0, eos_token_id=4, pad_token_id=1, do_sample=False
    )
    model.half().save_pretrained(folder)
    vocabulary.write(tokenizer, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="folder for the model and its tokenizer")
    parser.add_argument("--steps", type=int, help="stop after this many and print their losses")
    arguments = parser.parse_args()
    if arguments.steps:
        print(json.dumps(first_steps(arguments.steps)))
        return
    torch.set_num_threads(1)
    model, tokenizer = start.model(configuration(), chats.SEED), make_tokenizer()
    for step, loss in enumerate(train(model, tokenizer, STEPS), 1):
        if step % 50 == 0:
            print(f"step {step} of {STEPS}: loss {loss:.4f}", flush=True)
    write(model, tokenizer, arguments.out)


if __name__ == "__main__":
    main()
