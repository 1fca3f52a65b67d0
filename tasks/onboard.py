"""Write what the model centre needs to take the model in.

What comes out: record.json for machines, record.md for the one who fills in the form of d.run's
model centre (接入模型), with the form's own words, and kubernetes/ with objects to apply.  They
name both ways to load a model: files mounted into the workers (文件挂载), and an image (镜像加载)
where the recipe has one, with its digest once it was pushed.
No weights are needed.  Nothing is sent anywhere.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import push
from .core import paths, render, settings
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.recipe import Recipe

if TYPE_CHECKING:
    from .core.kubernetes import Description, Object

VERSION = 3

TEMPLATE = "onboard.md.j2"
# Where the model centre's workers see the bucket `llms`, one folder a model.
MOUNTS = "/root/llms"
ALWAYS = ("modelspec.yaml", "mount.yaml")


def wanted(recipe: Recipe) -> bool:
    """Return whether the model centre is to take the model in."""
    return recipe.onboard is not None


def task(recipe: Recipe) -> TaskDict:
    return {
        "doc": f"{recipe.name} -> the model centre's record",
        "file_dep": [paths.TEMPLATES / TEMPLATE],
        "targets": ["record.json", "record.md", *(f"kubernetes/{name}" for name in ALWAYS)],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    """Return all that the files hold."""
    from .core import kubernetes

    return {**record(recipe), "kubernetes": kubernetes.objects(recipe, description(recipe))}


def record(recipe: Recipe) -> dict[str, Any]:
    """Return what the model centre has to know.

    Raises:
        UserError: the architecture is unknown or not in the catalogue.
    """
    from .core import catalog

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
    """Return the folder in which the workers find the model's files, and what serves them."""
    from .core.kubernetes import runtime

    own = recipe.onboard.mount if recipe.onboard else None
    return {"path": own or f"{MOUNTS}/{recipe.name}", "image": runtime.image(recipe)}


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
    return {"reference": push.pinned(recipe), "registry": found.registry.strip("/") or None}


def description(recipe: Recipe) -> Description:
    """Return what the Kubernetes objects say of the model."""
    from .core import catalog, kubernetes
    from .core.kubernetes import resources, runtime

    row, found, shown = catalog.row(recipe), settings.current(), image(recipe)
    return kubernetes.Description(
        image=str(shown["reference"]) if shown else "",
        runtime=runtime.image(recipe),
        mount=mount(recipe)["path"],
        endpoint=found.s3_endpoint,
        region=found.s3_region,
        arguments=runtime.arguments(recipe),
        context_length=catalog.context_length(recipe),
        version=runtime.oldest(recipe),
        tags=("TEXT_GENERATION",) if row.modality == "text" else ("IMAGE_TO_TEXT",),
        provider=recipe.base.label.partition("/")[0] if recipe.base.hub else "own",
        resources=resources.of(recipe),
    )


def run(recipe: Recipe, folder: Path) -> Facts:
    """Write the record for machines and for people.

    Raises:
        UserError: what serves the mounted files does not know what it is told.
    """
    from .core import kubernetes
    from .core.image import lints
    from .core.kubernetes import runtime

    judged = lints.of_runtime(recipe, runtime.image(recipe), runtime.arguments(recipe))
    lints.check(recipe, judged)
    content = record(recipe)
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    (folder / "record.json").write_text(text, encoding="utf-8")
    (folder / "record.md").write_text(render.text(TEMPLATE, **content), encoding="utf-8")
    place = folder / "kubernetes"
    place.mkdir()
    for name, objects in kubernetes.objects(recipe, description(recipe)).items():
        (place / name).write_text(_yaml(objects), encoding="utf-8")
    shown = content["load"]["image"]
    facts = {"architecture": content["architecture"], "mount": content["load"]["mount"]["path"]}
    return {**facts, "image": shown["reference"]} if shown else facts


def _yaml(objects: list[Object]) -> str:
    import yaml

    text = yaml.safe_dump_all(objects, sort_keys=False, allow_unicode=True)
    return f"# Made by modelwright; change the recipe instead.\n{text}"
