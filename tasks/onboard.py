"""Write what the model centre needs to take the model in.

Two files come out: record.json for machines, record.md for the one who fills in the form of d.run's
model centre (接入模型), with the form's own words.  They name both ways to load a model: files
mounted into the workers (文件挂载), and an image (镜像加载) where the recipe has one.
No weights are needed.  Nothing is sent anywhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from .core import catalog, paths, render, settings
from .core.errors import UserError
from .core.recipe import Recipe
from .core.stage import Facts, TaskDict

VERSION = 1

TEMPLATE = "onboard.md.j2"
# Where the model centre's workers see the bucket `llms`, one folder a model.
MOUNTS = "/root/llms"


def wanted(recipe: Recipe) -> bool:
    """Return whether the model centre is to take the model in."""
    return recipe.onboard is not None


def task(recipe: Recipe) -> TaskDict:
    return {
        "doc": f"{recipe.name} -> the model centre's record",
        "file_dep": [paths.TEMPLATES / TEMPLATE],
        "targets": ["record.json", "record.md"],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    """Return the record: the files hold nothing else."""
    return record(recipe)


def record(recipe: Recipe) -> dict[str, Any]:
    """Return what the model centre has to know.

    Raises:
        UserError: the architecture is unknown or not in the catalogue.
    """
    row = catalog.row(recipe)
    return {
        "name": recipe.name,
        "architecture": row.architecture,
        "models": list(row.models),
        "modality": row.modality,
        "document": row.document,
        "lora": {"document": row.lora, "now": row.lora_now},
        "vllm": dict(row.vllm),
        "context_length": catalog.context_length(recipe),
        "trust_remote_code": recipe.base.trust_remote_code,
        "note": row.note,
        "load": {"mount": mount(recipe), "image": image(recipe)},
    }


def mount(recipe: Recipe) -> dict[str, str]:
    """Return the folder in which the workers find the model's files."""
    own = recipe.onboard.mount if recipe.onboard else None
    return {"path": own or f"{MOUNTS}/{recipe.name}"}


def image(recipe: Recipe) -> dict[str, str | None] | None:
    """Return the image reference, with the registry in it where that is set.

    Raises:
        UserError: the registry is set to a URL.
    """
    if recipe.image is None:
        return None
    found = settings.current()
    if "://" in found.registry:
        raise UserError(
            f"{found.where('registry')}: {found.registry} should be host[:port][/prefix]; "
            "take the part up to :// away"
        )
    registry = found.registry.rstrip("/")
    name = f"{recipe.image.repository}:{recipe.image.tag}"
    reference = f"{registry}/{name}" if registry else name
    return {"reference": reference, "registry": registry or None}


def run(recipe: Recipe, folder: Path) -> Facts:
    """Write the record for machines and for people."""
    content = record(recipe)
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (folder / "record.json").write_text(text, encoding="utf-8")
    (folder / "record.md").write_text(render.text(TEMPLATE, **content), encoding="utf-8")
    shown = content["load"]["image"]
    facts = {"architecture": content["architecture"], "mount": content["load"]["mount"]["path"]}
    return {**facts, "image": shown["reference"]} if shown else facts
