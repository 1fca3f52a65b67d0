"""Merge the adapter into the base weights.

Tensor by tensor and in the base's own type, in bounded memory whatever the model's size.  Full
tuning left whole weights; they only change their form.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import adapter
from .core import paths, xtuner
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


def command(recipe: Recipe, origin: Path, folder: Path) -> list[str]:
    """Return the command with which xtuner writes the weights; both its tools write fp16."""
    options = ["--max-shard-size", recipe.merge.shard_size, "--safe-serialization"]
    if is_full(recipe):
        config = paths.output(recipe.name, "config") / "config.py"
        return xtuner.command("pth_to_hf", config, origin, folder, *options)
    base = paths.output(recipe.name, "base")
    return xtuner.command("merge", base, origin, folder, "--device", "cpu", *options)


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
    base = paths.output(recipe.name, "base")
    if recipe.merge.tool == "xtuner":
        return _by_xtuner(recipe, base, origin, folder, log)
    from .core.model import shards

    most = shards.limit(recipe.merge.shard_size)
    return (convert if is_full(recipe) else merge)(base, origin, folder, most).facts


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
    tokenizer = _tokenizer(tuned, before, plan.tokens)
    try:
        shards.write_model(folder, plan.outputs, most, {MERGED: " ".join([*marks, mark])})
    finally:
        change.floats.cache_clear()
    beside.copy(base, folder, plan.changes(before.config), tokenizer)
    return _whole(before, folder, tying.HEADS if plan.untied else frozenset(), plan.tokens)


def _tokenizer(tuned: Path, before: Model, grown: int | None = None) -> set[Path]:
    """Return an adapter's tokenizer, if tokens were added for the training; it wins.

    Args:
        grown: how many tokens there are, if not as many as the base has.
    """
    from .core.model import beside, tokens, tying

    if grown or tokens.are_new(tuned, before.folder, tying.rows(before)):
        return beside.grown(tuned)
    return set()


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


def _by_xtuner(recipe: Recipe, base: Path, origin: Path, folder: Path, log: Path) -> Facts:
    """Let xtuner write weights and config.json; what lies beside them is as in our own way.

    Its tool saves the base's tokenizer anew, whatever the adapter's knows, with a transformers that
    may be older than the one that wrote it: templates in files of their own are lost.
    """
    from .core.model import beside, weights

    before, tokenizer = weights.inspect(base), set()
    if not is_full(recipe):
        _check_fit(before, origin)
        tokenizer = _tokenizer(origin, before)
    xtuner.run(command(recipe, origin, folder), recipe, log)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # The folder that the base lay in is no part of the model.
    config.pop("_name_or_path", None)
    beside.remove(folder)
    beside.copy(base, folder, {}, tokenizer)
    beside.write(folder / "config.json", config)
    after = weights.inspect(folder)
    if after.architecture != before.architecture:
        raise UserError(
            f"the merged weights are a {after.architecture}, the base is a "
            f"{before.architecture}; see {log}"
        )
    return after.facts


def _check_fit(before: Model, tuned: Path) -> None:
    """Refuse an adapter that is not all for the base as it is: PEFT would drop the rest unsaid."""
    from .core.model import lora, merging, naming

    added = lora.read(tuned)
    if merging.plan(before, added).tokens:
        odd = "tokens were added for the training"
    elif naming.fitted(added, before) is not added:
        odd = "names modules as another version of transformers does"
    else:
        return
    raise UserError(f"{tuned}: {odd}, which xtuner cannot merge; say `merge: {{with: streaming}}`")


def is_full(recipe: Recipe) -> bool:
    """Return whether all weights were trained, so that a checkpoint holds the model."""
    return recipe.train is not None and recipe.train.method == "full"
