"""Push the image to the registry and verify it there.

What goes in: the image that `image` built; its layers are streamed from the model's own files and
from the base's registry, so nothing is written to this machine's disk.
What comes out: the tag in the registry, its manifest fetched back, every blob looked up there, and
`reference`, the image's name with its digest.  A tag that others moved is put back when named.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .core import paths, reference, settings, stack
from .core.errors import UserError
from .core.recipe import Recipe
from .core.reference import Reference
from .core.stage import Facts, TaskDict

VERSION = 1


def wanted(recipe: Recipe) -> bool:
    return recipe.image is not None


def task(recipe: Recipe) -> TaskDict:
    return {
        "doc": f"image -> {place(recipe)}",
        "file_dep": [paths.manifest(recipe.name, stage) for stage in (recipe.weights, "image")],
        "targets": ["reference"],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    return {"reference": place(recipe)}


def place(recipe: Recipe) -> str:
    """Return the image's name in the registry of the settings."""
    assert recipe.image is not None
    registry = settings.current().registry.strip("/")
    own = f"{recipe.image.repository}:{recipe.image.tag}"
    return f"{registry}/{own}" if registry else own


def target(recipe: Recipe) -> Reference:
    """Return where the image goes.

    Raises:
        UserError: no registry is set, or the name is none that registries take.
    """
    if not settings.current().registry:
        raise UserError(
            "MODELWRIGHT_REGISTRY is not set; say where images go, `host[:port][/prefix]`, in the "
            "environment or as `registry:` in settings.yaml"
        )
    return reference.parse(place(recipe))


def drifted(recipe: Recipe) -> bool:
    """Return whether the tag in the registry is no longer the image that was pushed."""
    from .core.registry import Registry

    try:
        name = target(recipe)
        with Registry(name.host) as there:
            return there.digest(name) != _digest(recipe)
    except UserError:
        return True  # the push itself says what is wrong


def run(recipe: Recipe, folder: Path) -> Facts:
    from .core import imagepush
    from .core.registry import Registry

    name, image = target(recipe), paths.output(recipe.name, "image")
    listed = stack.read(image)
    if not listed:
        raise UserError(f"{image}: no list of layers; run `doit image:{recipe.name}`")
    with Registry(name.host) as there:
        imagepush.push(there, name, image, listed, recipe)
        imagepush.verify(there, name, image)
    digest = _digest(recipe)
    (folder / "reference").write_text(f"{name.at(digest)}\n", encoding="utf-8")
    return {"reference": str(name.at(digest)), "digest": digest}


def _digest(recipe: Recipe) -> str:
    text = (paths.output(recipe.name, "image") / "digest").read_text(encoding="utf-8")
    return text.strip()
