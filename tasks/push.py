"""Push the image to the registry and verify it there.

What goes in: the image that `image` built; its layers are streamed from the model's own files and
from the base's registry, so nothing is written to this machine's disk.
What comes out: the tag in the registry, its manifest fetched back, every blob looked up there, and
`reference`, the image's name with its digest.  A tag that others moved is put back when named.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import dockerfile
from .core import paths, settings
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.recipe import Recipe, present

if TYPE_CHECKING:
    from .core.image.reference import Reference
    from .core.image.registry import Registry

VERSION = 1
# What is in a registry is asked for there, never taken from a store.
STORED = False


def wanted(recipe: Recipe) -> bool:
    return recipe.image is not None


def task(recipe: Recipe) -> TaskDict:
    sources = [stage for stage, _ in dockerfile.sources(recipe)]
    return {
        "doc": f"image -> {place(recipe)}",
        "file_dep": [
            paths.manifest(recipe.name, stage) for stage in [*sources, "image", *recipe.gates]
        ],
        "targets": ["reference"],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    return {"reference": place(recipe), **recipe.slice("image.attest", "image.modelpack")}


def lacks(recipe: Recipe) -> str:
    """Return the setting that says where images go, if it is not set."""
    return "" if settings.current().registry else "MODELWRIGHT_REGISTRY"


def check(recipe: Recipe) -> None:
    """Refuse a registry that is none, before an image is built for it."""
    target(recipe)


def place(recipe: Recipe) -> str:
    """Return the image's name in the registry of the settings."""
    registry, image = settings.current().registry.strip("/"), present(recipe.image)
    own = f"{image.repository}:{image.tag}"
    return f"{registry}/{own}" if registry else own


def pinned(recipe: Recipe) -> str:
    """Return that name, by the digest that was pushed under it if one was."""
    name, last = place(recipe), pushed(recipe)
    return last if last.startswith(f"{name}@") else name


def pushed(recipe: Recipe) -> str:
    """Return what the last push left, the image's name with its digest; nothing without one."""
    try:
        text = (paths.output(recipe.name, "push") / "reference").read_text(encoding="utf-8")
    except OSError:
        return ""
    return text.strip()


def target(recipe: Recipe) -> Reference:
    """Return where the image goes.

    Raises:
        UserError: no registry is set, or it is none.
    """
    found = settings.current()
    if not found.registry:
        raise UserError(
            "MODELWRIGHT_REGISTRY is not set; say where images go, `host[:port][/prefix]`, in the "
            "environment or as `registry:` in settings.yaml"
        )
    from .core.image import reference

    reference.registry(found.registry, found.where("registry"))
    return reference.parse(place(recipe))


def drifted(recipe: Recipe) -> bool:
    """Return whether the tag in the registry is no longer the image that was pushed."""
    from .core.image.registry import Registry

    try:
        name = target(recipe)
        with Registry(name.host, quick=True) as there:
            return there.digest(name) != pushed(recipe).partition("@")[2]
    except UserError:
        return True  # the push itself says what is wrong


def run(recipe: Recipe, folder: Path) -> Facts:
    from .core.image import dockerengine, imagepush
    from .core.image.registry import Registry

    name, image = target(recipe), paths.output(recipe.name, "image")
    digest = (image / "digest").read_text(encoding="utf-8").strip()
    builder = present(recipe.image).builder
    if builder == "docker":
        digest = dockerengine.push(digest, str(name), paths.log(recipe.name, "push"))
    with Registry(name.host) as there:
        if builder == "oci":
            imagepush.push(there, name, image, recipe)
        imagepush.verify(there, name.at(digest))
        beside = _beside(there, name.at(digest), recipe)
    (folder / "reference").write_text(f"{name.at(digest)}\n", encoding="utf-8")
    return {"reference": str(name.at(digest)), "digest": digest, **beside}


def _beside(there: Registry, image: Reference, recipe: Recipe) -> dict[str, Any]:
    """Push what the recipe asks for beside the image; return the digests of that."""
    from .core.image import attest, modelpack

    asked, made = present(recipe.image), dict[str, Any]()
    if asked.modelpack:
        made["modelpack"] = modelpack.push(there, image, recipe)
    if asked.attest:
        made["attestations"] = attest.attach(there, image, recipe)
    return made
