"""What of a model decides how much memory and time its training takes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError

# Where these configs do not say it, the last layer is the first one turned over.
TIED = ("cohere", "gemma", "gpt2", "starcoder2")


@dataclass(frozen=True)
class Shape:
    """A decoder's sizes, under the names of transformers' configs.

    Attributes:
        kind: the config's model_type.
        keys: the width of all key heads together.
        tied: whether the last layer is the first one turned over.
    """

    kind: str
    layers: int
    hidden: int
    inner: int
    keys: int
    vocabulary: int
    tied: bool

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """The linear maps of one layer: what goes in, what comes out."""
        d, k, f = self.hidden, self.keys, self.inner
        return ((d, d), (d, k), (d, k), (d, d), (d, f), (d, f), (f, d))

    @property
    def linear(self) -> int:
        """The parameters of all layers' linear maps."""
        return self.layers * sum(before * after for before, after in self.matrices)

    @property
    def head(self) -> int:
        """The parameters of the last layer."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters, but for those of normalisation."""
        return self.linear + self.head * (1 if self.tied else 2)

    def adapter(self, r: int) -> int:
        """Return the parameters of an adapter on all linear maps."""
        return self.layers * sum(r * (before + after) for before, after in self.matrices)


def read(path: Path) -> Shape:
    """Return the shape that a model's config.json tells.

    Raises:
        UserError: it does not say what is needed.
    """
    try:
        return of(dict(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, LookupError, TypeError, ZeroDivisionError) as error:
        raise UserError(
            f"{path}: train.preset cannot tell the model's size from it ({error!r}); "
            "take the preset out of the recipe and say batch_size and the rest yourself"
        ) from None


def of(config: dict[str, Any]) -> Shape:
    """Return the shape in a config; ChatGLM and Qwen 1 have names of their own for some sizes."""

    def size(*names: str) -> int:
        there = [config[name] for name in names if config.get(name)]
        if not there:
            raise KeyError(names[0])
        return int(there[0])

    heads = size("num_attention_heads")
    hidden = size("hidden_size")
    kind = str(config.get("model_type", ""))
    groups = int(config.get("num_key_value_heads") or config.get("multi_query_group_num") or heads)
    return Shape(
        kind=kind,
        layers=size("num_hidden_layers", "num_layers"),
        hidden=hidden,
        inner=size("intermediate_size", "ffn_hidden_size"),
        keys=groups * int(config.get("head_dim") or hidden // heads),
        vocabulary=size("vocab_size", "padded_vocab_size"),
        tied=bool(config.get("tie_word_embeddings", kind.startswith(TIED))),
    )
