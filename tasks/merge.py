"""Merge the adapter into the base weights.

Tensor by tensor and in the base's own type, in bounded memory whatever the model's size.  Full
tuning left whole weights; they only change their form.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import adapter
from .core import paths
from .core.engine import digests
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.model import peft
from .core.recipe import Recipe

if TYPE_CHECKING:
    from .core.model.tensors import Tensor
    from .core.model.weights import Model

VERSION = 6
# The note in each weights file: digests of the adapters that are merged into it.
MERGED = "modelwright.adapters"


def wanted(recipe: Recipe) -> bool:
    """Return whether the model differs from its base."""
    return recipe.tuned


def task(recipe: Recipe) -> TaskDict:
    full, by_xtuner = is_full(recipe), recipe.merge.tool == "xtuner"
    before = ["base", *([] if full else ["adapter"]), *(["config"] if full and by_xtuner else [])]
    return {
        "doc": "checkpoint -> weights" if full else "base + adapter -> merged weights",
        "file_dep": [
            *(paths.manifest(recipe.name, stage) for stage in before),
            *(adapter.origin(recipe) if full else []),
        ],
        "task_dep": ["toolchain:xtuner"] if by_xtuner else [],
        "targets": ["config.json"],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    """Return the size of the shards, and the checkpoint where no adapter stands between."""
    checkpoint = adapter.taken(recipe) if is_full(recipe) else {}
    return {**recipe.slice("merge.with", "merge.shard_size"), **checkpoint}


def run(recipe: Recipe, folder: Path) -> Facts:
    """Merge, then find the result whole."""
    full = is_full(recipe)
    origin = adapter.checkpoint(recipe) if full else paths.output(recipe.name, "adapter")
    return write(recipe, origin, folder, paths.log(recipe.name, "merge"))


def write(recipe: Recipe, origin: Path, folder: Path, log: Path) -> Facts:
    """Write merged weights into a folder, with the tool that the recipe asks for.

    Args:
        origin: an adapter's folder, or a checkpoint where the model was tuned in full.
    """
    from .core.model import byxtuner, shards

    full = is_full(recipe)
    if recipe.merge.tool == "xtuner":
        return (byxtuner.convert if full else byxtuner.merge)(recipe, origin, folder, log).facts
    base, most = paths.output(recipe.name, "base"), shards.limit(recipe.merge.shard_size)
    return (convert if full else merge)(base, origin, folder, most).facts


def merge(base: Path, tuned: Path, folder: Path, most: int) -> Model:
    """Write base + adapter into a folder, in files of at most `most` bytes.

    Raises:
        UserError: one of them is damaged, the two do not fit, or the adapter is in the base.
    """
    from .core.model import beside, change, lora, merging, shards, tying, weights

    before, added = weights.inspect(base), lora.read(tuned)
    marks = before.metadata.get(MERGED, "").split()
    mark = digests.of_file(tuned / peft.WEIGHTS)
    if mark in marks:
        raise UserError(f"{base}: {tuned} is merged into it already; start from the model's base")
    plan = merging.plan(before, added)
    tokenizer = beside.tokenizer(tuned, before, plan.tokens)
    try:
        shards.write_model(folder, plan.outputs, most, {MERGED: " ".join([*marks, mark])})
    finally:
        change.floats.cache_clear()
    beside.copy(base, folder, plan.changes(before.config), tokenizer)
    return _whole(before, folder, tying.HEADS if plan.untied else frozenset(), plan.tokens)


def convert(base: Path, checkpoint: Path, folder: Path, most: int) -> Model:
    """Write the weights in a checkpoint of full tuning into a folder, in the base's types.

    Raises:
        UserError: the checkpoint is damaged, or not of this base.
    """
    from .core.model import beside, export, shards, weights

    before = weights.inspect(base)
    shards.write_model(folder, export.whole(export.load(checkpoint), before), most, {})
    beside.copy(base, folder, {})
    return _whole(before, folder, frozenset(), None)


def _whole(before: Model, folder: Path, heads: frozenset[str], tokens: int | None) -> Model:
    """Return the model that was written, once it is found to have the base's tensors.

    Args:
        heads: tensors that may be there although the base has them under another name.
        tokens: how many tokens it has, if not as many as the base.
    """
    from .core.model import tying, weights

    after = weights.inspect(folder)
    expected = {name: _form(tensor) for name, tensor in before.tensors.items()}
    if tokens:
        for name in tying.VOCABULARY & expected.keys():
            dtype, shape = expected[name]
            expected[name] = dtype, (tokens, *shape[1:])
    found = {name: _form(tensor) for name, tensor in after.tensors.items()}
    for name in sorted(expected.keys() | found.keys() - heads):
        if expected.get(name) != found.get(name):
            raise UserError(
                f"{folder}: {name}: {found.get(name)} was written, the base has "
                f"{expected.get(name)}; a fault of ours, please report it"
            )
    return after


def _form(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    return tensor.dtype, tensor.shape


def is_full(recipe: Recipe) -> bool:
    """Return whether all weights were trained, so that a checkpoint holds the model."""
    return recipe.train is not None and recipe.train.method == "full"
