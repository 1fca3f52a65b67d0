"""Let xtuner's own tools write a model's weights, in float16 whatever the base's type.

What lies beside them is as in our own way.  Its merge saves the base's tokenizer anew, whatever the
adapter's knows, with a transformers that may be older than the one that wrote it: templates in
files of their own are lost.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from .. import paths, xtuner
from ..errors import UserError
from ..recipe import Recipe
from . import beside, lora, merging, naming, weights
from .weights import Model


def merge(recipe: Recipe, tuned: Path, folder: Path, log: Path) -> Model:
    """Write base + adapter into a folder.

    Raises:
        UserError: one of them is damaged, or the adapter is not all for the base as it is.
        CommandFailed: xtuner's tool failed.
    """
    base = paths.output(recipe.name, "base")
    before = weights.inspect(base)
    _check_fit(before, tuned)
    tokenizer = beside.tokenizer(tuned, before)
    _run(recipe, log, "merge", base, tuned, folder, "--device", "cpu")
    return _as_ours(before, folder, log, tokenizer)


def convert(recipe: Recipe, checkpoint: Path, folder: Path, log: Path) -> Model:
    """Write the weights in a checkpoint of full tuning into a folder; it raises as `merge` does."""
    before = weights.inspect(paths.output(recipe.name, "base"))
    config = paths.output(recipe.name, "config") / "config.py"
    _run(recipe, log, "pth_to_hf", config, checkpoint, folder)
    return _as_ours(before, folder, log)


def _check_fit(before: Model, tuned: Path) -> None:
    """Refuse an adapter that is not all for the base as it is: PEFT would drop the rest unsaid."""
    added = lora.read(tuned)
    if merging.plan(before, added).tokens:
        odd = "tokens were added for the training"
    elif naming.fitted(added, before) is not added:
        odd = "names modules as another version of transformers does"
    else:
        return
    raise UserError(f"{tuned}: {odd}, which xtuner cannot merge; say `merge: {{with: streaming}}`")


def _run(recipe: Recipe, log: Path, tool: str, *arguments: object) -> None:
    options = ("--max-shard-size", recipe.merge.shard_size, "--safe-serialization")
    xtuner.run(xtuner.command(tool, *arguments, *options), recipe, log)


def _as_ours(before: Model, folder: Path, log: Path, tokenizer: Iterable[Path] = ()) -> Model:
    """Leave xtuner's weights and config.json, and beside them what our own way leaves."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    # The folder that the base lay in is no part of the model.
    config.pop("_name_or_path", None)
    beside.remove(folder)
    beside.copy(before.folder, folder, {}, tokenizer)
    beside.write(folder / "config.json", config)
    after = weights.inspect(folder)
    if after.architecture != before.architecture:
        raise UserError(
            f"the merged weights are a {after.architecture}, the base is a "
            f"{before.architecture}; see {log}"
        )
    return after
