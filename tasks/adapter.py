"""Turn the checkpoint into a Hugging Face adapter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .core import manifest, paths, source, weights, xtuner
from .core.errors import UserError
from .core.recipe import Recipe
from .core.stage import Facts, TaskDict

VERSION = 1
FILES = ("adapter_config.json", "adapter_model.safetensors")


def wanted(recipe: Recipe) -> bool:
    """Return whether there is an adapter: trained by LoRA, or given."""
    return recipe.adapter is not None or (
        recipe.train is not None and recipe.train.method != "full"
    )


def task(recipe: Recipe) -> TaskDict:
    if recipe.adapter:
        return {"doc": recipe.adapter.label, "targets": FILES}
    return {
        "doc": f"iter_{recipe.checkpoint}.pth -> adapter",
        "file_dep": [paths.manifest(recipe.name, s) for s in ("base", "config", "train")],
        "task_dep": ["toolchain:xtuner"],
        "targets": FILES,
    }


def key(recipe: Recipe) -> dict[str, Any]:
    """Return which checkpoint is taken, or what the given adapter holds."""
    if recipe.adapter:
        return source.key(recipe, recipe.adapter, "adapter")
    return recipe.slice("checkpoint")


def command(recipe: Recipe, folder: Path) -> list[str]:
    """Return the command that writes the adapter into a folder."""
    return xtuner.command(
        "pth_to_hf",
        paths.output(recipe.name, "config") / "config.py",
        checkpoint(recipe),
        folder,
        "--safe-serialization",
    )


def checkpoint(recipe: Recipe) -> Path:
    """Return the checkpoint to take from what training left."""
    receipt = manifest.read(paths.manifest(recipe.name, "train"))
    assert receipt is not None
    number = receipt.facts["iterations"] if recipe.checkpoint == "last" else recipe.checkpoint
    path = paths.output(recipe.name, "train") / f"iter_{number}.pth"
    if not path.exists():
        there = ", ".join(sorted(p.name for p in path.parent.glob("iter_*.pth")))
        raise UserError(f"{recipe.file}: checkpoint: no {path.name}; training left {there}")
    return path


def run(recipe: Recipe, folder: Path) -> Facts:
    """Write the adapter, or link the given one."""
    if recipe.adapter:
        source.link(source.local(recipe, recipe.adapter, "adapter"), folder)
        where = recipe.beside(str(recipe.adapter.path))
    else:
        xtuner.run(command(recipe, folder), recipe, paths.log(recipe.name, "adapter"))
        for path in folder.iterdir():
            if path.name not in FILES:
                path.unlink()
        _name_base(folder / "adapter_config.json", recipe.base.label)
        where = folder
    return _facts(where)


def _name_base(path: Path, base: str) -> None:
    """Say which base the adapter is for by the name that the recipe has, not by our folder."""
    config = json.loads(path.read_text(encoding="utf-8"))
    config["base_model_name_or_path"] = base
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _facts(folder: Path) -> Facts:
    """Return what the adapter is, once its two files are found to be whole."""
    for name in FILES:
        if not (folder / name).is_file():
            raise UserError(f"{folder}: no {name}; is this the folder of a PEFT adapter?")
    header = weights.read_header(folder / "adapter_model.safetensors")
    if not header:
        raise UserError(f"{folder / 'adapter_model.safetensors'}: holds no tensor")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    parameters = sum(map(weights.elements, header.values()))
    return {"tensors": len(header), "parameters": parameters, "rank": config.get("r", 0)}
