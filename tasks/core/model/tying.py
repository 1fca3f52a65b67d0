"""Say which tensors of a model may be one: the embedding, and the head that is it turned over.

transformers leaves `tie_word_embeddings` out of config.json where it is the default of the model's
class, and for some classes (GPT-2's, Gemma's) the default is that the two are tied.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from .weights import Model

KEY = "tie_word_embeddings"
# Where the embedding and the output head are, by the names of the families that there are.
_FAMILIES = (
    ("model.embed_tokens.weight", "lm_head.weight"),
    ("model.decoder.embed_tokens.weight", "lm_head.weight"),
    ("model.tok_embeddings.weight", "output.weight"),
    ("transformer.wte.weight", "lm_head.weight"),
    ("transformer.word_embeddings.weight", "lm_head.weight"),
    ("transformer.embedding.word_embeddings.weight", "transformer.output_layer.weight"),
    ("gpt_neox.embed_in.weight", "embed_out.weight"),
)
# A model that sees or hears has one of these within.
_WITHIN = ("", "language_model.", "llm.")
PAIRS = (
    *((within + first, within + last) for within in _WITHIN for first, last in _FAMILIES),
    ("model.language_model.embed_tokens.weight", "lm_head.weight"),
    ("model.text_model.embed_tokens.weight", "lm_head.weight"),
)
HEADS = frozenset(head for _, head in PAIRS)
# What has a row for every token.
VOCABULARY = frozenset(name for pair in PAIRS for name in pair) | frozenset(
    f"{head.removesuffix('weight')}bias" for head in HEADS
)
# Where config.json speaks of the model within.
_PARTS = ("text_config", "llm_config")


def pairs(model: Model) -> list[tuple[str, str]]:
    """Return the embedding and the head that may be one tensor, by their names.

    They are one where config.json says so, or where it says nothing and there is no head.  Where it
    says nothing and there is a head, only the model's class could tell.
    """
    said = (model.config, *_parts(model.config).values())
    if not all(each.get(KEY, True) for each in said):
        return []
    return [pair for pair in PAIRS if pair[0] in model.tensors]


def rows(model: Model) -> int:
    """Return how many tokens a model has a row for; no bound where that cannot be told."""
    found = (tensor.rows for name, tensor in model.tensors.items() if name in VOCABULARY)
    return max(found, default=sys.maxsize)


def changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return config.json with other values, also where it speaks of the model within."""
    parts = {name: {**part, **changes} for name, part in _parts(config).items()}
    return {**config, **parts, **changes}


def _parts(config: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    found = {name: config.get(name) for name in _PARTS}
    return {name: part for name, part in found.items() if isinstance(part, dict)}
