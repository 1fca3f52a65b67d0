"""Say which tensors of a model may be one: the embedding, and the head that is it turned over.

transformers leaves `tie_word_embeddings` out of config.json where it is the default of the model's
class, and for some classes (GPT-2's, Gemma's) the default is that the two are tied.
"""

from __future__ import annotations

from .weights import Model

KEY = "tie_word_embeddings"
# Where the embedding and the output head are, by the names of the families that there are.
PAIRS = (
    ("model.embed_tokens.weight", "lm_head.weight"),
    ("model.decoder.embed_tokens.weight", "lm_head.weight"),
    ("model.tok_embeddings.weight", "output.weight"),
    ("transformer.wte.weight", "lm_head.weight"),
    ("transformer.word_embeddings.weight", "lm_head.weight"),
    ("transformer.embedding.word_embeddings.weight", "transformer.output_layer.weight"),
    ("gpt_neox.embed_in.weight", "embed_out.weight"),
)
HEADS = frozenset(head for _, head in PAIRS)


def pairs(model: Model) -> list[tuple[str, str]]:
    """Return the embedding and the head that may be one tensor, by their names.

    They are one where config.json says so, or where it says nothing and there is no head.  Where it
    says nothing and there is a head, only the model's class could tell.
    """
    if not model.config.get(KEY, True):
        return []
    return [pair for pair in PAIRS if pair[0] in model.tensors]
