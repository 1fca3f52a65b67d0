"""Merge the adapter into the base weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from . import adapter
from .core import manifest, paths, weights, xtuner
from .core.errors import UserError
from .core.recipe import Recipe
from .core.stage import Facts, TaskDict

VERSION = 1
# What a tokenizer consists of, in any of its forms.
TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt")


def wanted(recipe: Recipe) -> bool:
    """Return whether the model differs from its base."""
    return recipe.tuned


def task(recipe: Recipe) -> TaskDict:
    """Return the doit task; full tuning left whole weights, which only change their form."""
    before = ("base", "config", "train") if _is_full(recipe) else ("base", "adapter")
    return {
        "doc": "checkpoint -> weights" if _is_full(recipe) else "base + adapter -> merged weights",
        "file_dep": [paths.manifest(recipe.name, stage) for stage in before],
        "task_dep": ["toolchain:xtuner"],
        "targets": ["config.json"],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    """Return the size of the shards, and the checkpoint where no adapter stands between."""
    return recipe.slice("merge.shard_size", *(["checkpoint"] if _is_full(recipe) else []))


def command(recipe: Recipe, folder: Path) -> list[str]:
    """Return the command that writes the weights into a folder; both tools write fp16."""
    options = ["--max-shard-size", recipe.merge.shard_size, "--safe-serialization"]
    if _is_full(recipe):
        config = paths.output(recipe.name, "config") / "config.py"
        return xtuner.command("pth_to_hf", config, adapter.checkpoint(recipe), folder, *options)
    base, tuned = (paths.output(recipe.name, stage) for stage in ("base", "adapter"))
    return xtuner.command("merge", base, tuned, folder, "--device", "cpu", *options)


def run(recipe: Recipe, folder: Path) -> Facts:
    """Merge, then find the result whole."""
    xtuner.run(command(recipe, folder), recipe, paths.log(recipe.name, "merge"))
    base = paths.output(recipe.name, "base")
    (folder / "xtuner_config.py").unlink(missing_ok=True)
    _forget_origin(folder / "config.json")
    for path in (path for pattern in TOKENIZER for path in base.glob(pattern)):
        shutil.copyfile(path, folder / path.name)
    model = weights.inspect(folder)
    before = manifest.read(paths.manifest(recipe.name, "base"))
    assert before is not None
    if model.architecture != before.facts["architecture"]:
        raise UserError(
            f"the merged weights are a {model.architecture}, the base is a "
            f"{before.facts['architecture']}; see {paths.log(recipe.name, 'merge')}"
        )
    return {"tensors": model.tensors, "parameters": model.parameters, "dtype": model.dtype}


def _forget_origin(path: Path) -> None:
    """Take the folder that the base lay in out of config.json: equal models have equal bytes."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _is_full(recipe: Recipe) -> bool:
    return recipe.train is not None and recipe.train.method == "full"
