"""Turn the checkpoint into a Hugging Face adapter.

It is read straight from the checkpoint, a file of torch's or a directory of DeepSpeed's: nothing in
it is run, and no base is built.  The adapter is float16, as xtuner's pth_to_hf writes it.  A recipe
may give an adapter instead, trained by whatever writes PEFT's files.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from . import train
from .core import paths, xtuner
from .core.engine import digests, inputs, manifest
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.model import peft
from .core.recipe import Recipe
from .core.sections import Adapter
from .core.sources import source
from .core.training import checkpoints

VERSION = 2
FILES = (peft.CONFIG, peft.WEIGHTS)


def wanted(recipe: Recipe) -> bool:
    """Return whether there is an adapter: trained by LoRA, or given."""
    return recipe.adapter is not None or (
        recipe.train is not None and recipe.train.method != "full"
    )


def task(recipe: Recipe) -> TaskDict:
    if recipe.adapter:
        return {"doc": recipe.adapter.label, "targets": FILES}
    which = "best checkpoint" if recipe.chooses else f"iter_{recipe.checkpoint}.pth"
    return {
        "doc": f"{which} -> adapter",
        "file_dep": [
            *(paths.manifest(recipe.name, stage) for stage in ("base", "config")),
            *origin(recipe),
        ],
        "task_dep": ["toolchain:xtuner"] if recipe.merge.tool == "xtuner" else [],
        "targets": FILES,
    }


def settle(recipe: Recipe) -> None:
    """Make the lock say which commit a given adapter's revision means."""
    if recipe.adapter:
        source.settle(recipe, recipe.adapter, "adapter")


def key(recipe: Recipe) -> dict[str, Any]:
    """Return which checkpoint is taken, or what the given adapter holds."""
    if recipe.adapter:
        return source.key(recipe, recipe.adapter, "adapter")
    return {**recipe.slice("merge.with"), **taken(recipe)}


def command(recipe: Recipe, checkpoint: Path, folder: Path) -> list[str]:
    """Return the command with which xtuner writes a checkpoint's adapter into a folder."""
    return xtuner.command("pth_to_hf", _config(recipe), checkpoint, folder, "--safe-serialization")


def origin(recipe: Recipe) -> list[Path]:
    """Return the manifests of the stages that the checkpoint comes from; none if it is early."""
    stages = ["train", *(["select"] if recipe.chooses else [])]
    return [] if early(recipe) else [paths.manifest(recipe.name, stage) for stage in stages]


def taken(recipe: Recipe) -> dict[str, Any]:
    """Return what a key says of the checkpoint that is taken; a chosen one is told by `select`."""
    path = early(recipe)
    if path is None:
        return {} if recipe.chooses else recipe.slice("checkpoint")
    if path.is_dir():
        return {path.name: manifest.digest_of([vars(file) for file in manifest.describe(path)])}
    return {path.name: digests.of_file(path)}


def early(recipe: Recipe) -> Path | None:
    """Return the checkpoint that the command line asks for, while training still goes on."""
    if not checkpoints.asked() or not isinstance(recipe.checkpoint, int):
        return None
    try:
        key = manifest.key_of("train", inputs.gather(train, recipe))
    except (inputs.NotReady, UserError, OSError):
        return None
    path = paths.scratch(recipe.name, "train", key) / f"iter_{recipe.checkpoint}.pth"
    return path if path.exists() and checkpoints.is_whole(path) else None


def checkpoint(recipe: Recipe) -> Path:
    """Return the checkpoint to take."""
    path = early(recipe)
    if path:
        return path
    if recipe.chooses:
        number = _fact(recipe, "select", "checkpoint")
    else:
        (number,) = checkpoints.numbers(recipe.checkpoint, _fact(recipe, "train", "iterations"))
    return checkpoints.left(recipe, paths.output(recipe.name, "train"), number)


def _fact(recipe: Recipe, stage: str, name: str) -> int:
    receipt = manifest.of(recipe.name, stage)
    assert receipt is not None
    return int(receipt.facts[name])


def run(recipe: Recipe, folder: Path) -> Facts:
    """Write the adapter, or take in the given one."""
    if recipe.adapter:
        return _take_in(recipe, recipe.adapter, folder)
    write(recipe, checkpoint(recipe), folder, paths.log(recipe.name, "adapter"))
    return _facts(folder)


def write(recipe: Recipe, checkpoint: Path, folder: Path, log: Path) -> None:
    """Write a checkpoint's adapter into a folder, with the tool that the recipe asks for."""
    if recipe.merge.tool != "xtuner":
        extract(checkpoint, _config(recipe), folder, recipe.base.label)
        return
    xtuner.run(command(recipe, checkpoint, folder), recipe, log)
    for path in folder.iterdir():
        if path.name not in FILES:
            path.unlink()
    settings = json.loads((folder / peft.CONFIG).read_text(encoding="utf-8"))
    _write_config(folder, {**settings, "base_model_name_or_path": recipe.base.label})


def extract(path: Path, rendered: Path, folder: Path, base: str) -> None:
    """Write the adapter in a checkpoint into a folder.

    Args:
        rendered: the config that trained it, which says what the tensors mean.
        base: what the adapter calls its base.

    Raises:
        UserError: the checkpoint is damaged, or holds no adapter.
    """
    from .core.model import export, shards
    from .core.model.checkpoint import verify
    from .core.xtuner import config

    settings = config.lora(rendered)
    found = export.load(path)
    outputs = export.adapter(found, settings["bias"])
    modules = {output.name.split(".lora_")[0] for output in outputs if ".lora_" in output.name}
    if not modules:
        raise UserError(f"{path}: holds no LoRA; was the model trained in full?")
    if path.is_file():
        verify(path, found.values())
    shards.write(folder / peft.WEIGHTS, outputs, {})
    # xtuner aims at every linear layer unless told; their names are in the checkpoint.
    aims = settings["target_modules"] or sorted({name.rpartition(".")[2] for name in modules})
    settings.update(target_modules=aims, base_model_name_or_path=base, inference_mode=True)
    _write_config(folder, settings)


def _config(recipe: Recipe) -> Path:
    return paths.output(recipe.name, "config") / "config.py"


def _write_config(folder: Path, settings: dict[str, Any]) -> None:
    text = json.dumps(settings, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (folder / peft.CONFIG).write_text(text, encoding="utf-8")


def _take_in(recipe: Recipe, given: Adapter, folder: Path) -> Facts:
    """Bring a given adapter in; it must turn out to be a whole one."""
    source.fetch(recipe, given, "adapter", folder)
    with source.named(recipe, given, "adapter", folder):
        _extract(recipe, folder)
        _unpickle(folder)
        return _facts(folder)


def _extract(recipe: Recipe, folder: Path) -> None:
    """Give a checkpoint that xtuner left the form that all others have."""
    given = checkpoints.all_in(folder)
    if not given:
        return
    # DeepSpeed leaves a program beside its checkpoints.
    configs = sorted(path for path in folder.glob("*.py") if path.name != "zero_to_fp32.py")
    if len(configs) != 1:
        raise UserError(
            f"{recipe.file}: adapter: beside {given[-1].name} must be the one config.py that "
            "trained it, which tells r, lora_alpha and target_modules (found: "
            f"{', '.join(path.name for path in configs) or 'none'}); copy it there, or choose by "
            f"`allow: [{given[-1].name}*, NAME.py]`"
        )
    others = list(folder.iterdir())
    extract(given[-1], configs[0], folder, recipe.base.label)
    for path in others:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _unpickle(folder: Path) -> None:
    """Give an adapter that is a pickle the form that all others have."""
    from .core.model import lora, shards

    pickled = folder / peft.PICKLED
    if pickled.is_file():
        if not (folder / peft.WEIGHTS).is_file():
            outputs = [shards.copied(tensor) for tensor in lora.tensors(folder).values()]
            shards.write(folder / peft.WEIGHTS, outputs, {})
        pickled.unlink()


def _facts(folder: Path) -> Facts:
    """Return what the adapter is, once it is found to be whole."""
    from .core.model import lora

    found = lora.read(folder)
    tensors = lora.tensors(folder)
    parameters = sum(tensor.elements for tensor in tensors.values())
    return {"tensors": len(tensors), "parameters": parameters, "rank": found.config.get("r", 0)}
