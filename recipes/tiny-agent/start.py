"""Set tiny-agent's first weights so that it begins with heads that look back and heads that match.

Left to itself a model of this size needs many times more text before it discovers copying. Layer 0
looks one or two tokens back and notes what it saw; layer 1 finds where the current token, or the
last two, occurred before and repeats what followed. All weights are trained afterwards.
"""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM

HEAD = 32
# Dimensions of the residual stream: a constant, the token, and three notes of layer 0.
CONSTANT, TOKEN, NOTES, NOTE = 0, slice(1, 80), 80, 16
# Rotary frequencies from this one on turn too slowly to disturb a match.
SLOW = 8


def projection(rows: int, columns: int) -> torch.Tensor:
    """Return random directions at right angles to each other."""
    return torch.linalg.qr(torch.randn(columns, rows))[0].T


def set_embedding(model: LlamaForCausalLM) -> None:
    weight = model.model.embed_tokens.weight
    weight.zero_()
    weight[:, CONSTANT] = 0.5
    weight[:, TOKEN] = torch.randn(weight.shape[0], TOKEN.stop - TOKEN.start) * 0.1


def quieten(model: LlamaForCausalLM) -> None:
    """Make the random part of the first two layers' attention too small to disturb the rest."""
    for layer in model.model.layers[:2]:
        for part in layer.self_attn.children():
            part.weight.mul_(0.1)


def look_back(model: LlamaForCausalLM, head: int, distance: int, note: torch.Tensor) -> None:
    """Make a head of layer 0 write its note of the token this many places back."""
    attention = model.model.layers[0].self_attn
    half = HEAD // 2
    angles = distance * model.config.rope_theta ** (-torch.arange(half) / half)
    first = head * HEAD
    attention.q_proj.weight[first : first + half, CONSTANT] = 1.6
    attention.k_proj.weight[first : first + half, CONSTANT] = 1.6 * angles.cos()
    attention.k_proj.weight[first + half : first + HEAD, CONSTANT] = 1.6 * angles.sin()
    attention.v_proj.weight[first : first + NOTE, TOKEN] = note
    for row in range(NOTE):
        attention.o_proj.weight[NOTES + NOTE * head + row, first + row] = 0.1


def match(model: LlamaForCausalLM, head: int, note: torch.Tensor, number: int) -> None:
    """Make a head of layer 1 attend where the last two tokens were, and copy what followed."""
    attention = model.model.layers[1].self_attn
    first = head * HEAD
    slow = [first + row for row in range(SLOW, HEAD // 2)]
    slow += [row + HEAD // 2 for row in slow]
    for index, row in enumerate(slow):
        if index % 2:
            attention.q_proj.weight[row, TOKEN] = 4.0 * note[index]
            attention.k_proj.weight[row, NOTES + NOTE * number + index] = 2.0
        else:
            attention.q_proj.weight[row, NOTES + index] = 4.0
            attention.k_proj.weight[row, NOTES + 2 * NOTE + index] = 2.0
    copied = projection(HEAD, TOKEN.stop - TOKEN.start)
    attention.v_proj.weight[first : first + HEAD, TOKEN] = copied
    attention.o_proj.weight[TOKEN, first : first + HEAD] = 0.3 * copied.T


def model(config: LlamaConfig, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    made = LlamaForCausalLM(config)
    width = TOKEN.stop - TOKEN.start
    notes = [projection(NOTE, width) for _ in range(2)]
    with torch.no_grad():
        set_embedding(made)
        quieten(made)
        for head, (distance, note) in enumerate([(1, notes[0]), (1, notes[1]), (2, notes[0])]):
            look_back(made, head, distance, note)
        for head in range(4):
            match(made, head, notes[head % 2], head % 2)
    return made
