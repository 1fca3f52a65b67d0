"""Build the image: an OCI layout without a daemon, or with a Docker engine.

What goes in: the finished model, and a base that is `scratch`, in a registry, in an OCI layout or
in an archive of `docker save`.
What comes out: an OCI image layout (image-spec 1.1) and `digest`, the image manifest's digest.
With a base in a registry, or `layout: false`, the layout holds no layers: `layers.json` says where
their bytes are, and `push` streams them from there.
`builder: docker` is for what needs RUN: the engine keeps the image, `digest` is its id there.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import dockerfile
from .core import console, paths
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.image import bases, layers, wheellock
from .core.model import modelfiles
from .core.recipe import Recipe, present

if TYPE_CHECKING:
    from .core.image import oci

VERSION = 2
# An engine's image is on this machine only, and a layout is quickly made from the model.
STORED = False

# Overlay file systems end at 122 to 128 layers; an image above that builds well and never starts.
MOST_LAYERS = 100


def wanted(recipe: Recipe) -> bool:
    return recipe.image is not None


def task(recipe: Recipe) -> TaskDict:
    base, built = present(recipe.image).base, present(recipe.image).builder == "docker"
    stages = [*(stage for stage, _ in dockerfile.sources(recipe)), *(["dockerfile"] * built)]
    return {
        "doc": f"{base} + model -> {'Docker engine' if built else 'OCI layout'}",
        "file_dep": [paths.manifest(recipe.name, stage) for stage in stages],
        "targets": ["digest", *([] if built else ["index.json", "layers.json", "oci-layout"])],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    if present(recipe.image).builder == "docker":
        base = {"image.base": bases.identity(recipe)} if bases.is_here(recipe) else {}
        return {**recipe.slice("image.builder", "image.build"), **base}
    return {
        "model": recipe.name,
        **recipe.slice("image.pip", "image.python", "image.env", "image.labels"),
        "image.base": bases.identity(recipe),
        "stored": is_stored(recipe),
        "image.entrypoint": dockerfile.entrypoint(recipe),
        "left_out": list(modelfiles.LEFT_OUT),
        **wheellock.key(recipe),
    }


def settle(recipe: Recipe) -> None:
    """Lock the digest of the base, and the wheels, before the inputs are read."""
    if present(recipe.image).builder == "oci":
        bases.settle(recipe)
        wheellock.settle(recipe)


def update(recipe: Recipe) -> None:
    """Look the base's tag up anew, and choose wheels anew."""
    from .core.image import dockerengine

    made = present(recipe.image)
    if made.builder == "oci":
        bases.update(recipe)
        wheellock.update(recipe)
    elif bases.remote(recipe) and dockerengine.is_only_here(made.base):
        console.say(f"   image.base: {made.base} is the engine's own; nothing to look up")
    else:
        bases.update(recipe)


def drifted(recipe: Recipe) -> bool:
    """Return whether a Docker engine that built the image no longer has it."""
    if present(recipe.image).builder != "docker":
        return False
    from .core.image import dockerengine

    path = paths.output(recipe.name, "image") / "digest"
    return not dockerengine.has(path.read_text(encoding="utf-8").strip())


def run(recipe: Recipe, folder: Path) -> Facts:
    from .core.image import lints

    dockerfile.lint(recipe)
    for stage, root in dockerfile.sources(recipe):
        if root == layers.ROOT:
            model = paths.output(recipe.name, stage)
            lints.check(recipe, lints.of_files(recipe, model, modelfiles.outgoing(model)))
    by_engine = present(recipe.image).builder == "docker"
    return _with_an_engine(recipe, folder) if by_engine else _without(recipe, folder)


def is_stored(recipe: Recipe) -> bool:
    """Return whether the layout holds the layers; else a push streams them from where they are."""
    asked = present(recipe.image).layout
    return bases.remote(recipe) is None if asked is None else asked


def _without(recipe: Recipe, folder: Path) -> Facts:
    """Write the layout."""
    from .core.image import imageconfig, layouts, ownlayers, stack

    base, stored = bases.read(recipe), is_stored(recipe)
    where = bases.origin(recipe)
    below = [stack.Layer(**layer, origin=where) for layer in (base.layers if base else ())]
    added = _packages(recipe, base, folder)
    sources = dockerfile.sources(recipe)
    allowed = MOST_LAYERS - 2 * len(sources) - bool(added)
    if len(below) > allowed:
        raise UserError(f"image.base: too many layers; the base may have {allowed}")
    rest = MOST_LAYERS - len(below)
    own = ownlayers.make(recipe, folder, sources, added, rest, stored=stored)
    if stored and base:
        bases.store(recipe, folder, base.layers)
    command, made = dockerfile.entrypoint(recipe), present(recipe.image)
    config = imageconfig.make(made, recipe.name, base, command, own)
    whole = [*below, *own]
    digest = layouts.write_image(folder, config, [layer.descriptor for layer in whole])["digest"]
    stack.write(folder, whole)
    (folder / "digest").write_text(f"{digest}\n", encoding="utf-8")
    if stored:
        layouts.verify(folder)
    return {"digest": digest, "layers": len(whole), "bytes": sum(one.size for one in whole)}


def _packages(recipe: Recipe, base: oci.Image | None, folder: Path) -> list[str]:
    """Unpack the recipe's packages; say which of them the base has."""
    from .core.image import wheels

    made, missing = present(recipe.image), wheels.missing(recipe)
    for package in made.pip:
        if package not in missing:
            console.say(f"   {package} is in {made.base} already; not added")
    if not missing:
        return []
    locked = wheellock.read(recipe)
    assert locked is not None
    return wheels.install(recipe, base, locked, folder)


def _with_an_engine(recipe: Recipe, folder: Path) -> Facts:
    """Have the engine build; it keeps the image, and we its id."""
    from .core.image import dockerengine

    made, model = present(recipe.image), paths.output(recipe.name, recipe.weights)
    dockerengine.version()
    if made.serve == "adapter" and not dockerengine.has_buildx():
        raise UserError(
            f"{recipe.file}: image.serve: an engine takes base and adapter apart only through "
            "Docker's buildx, which is not here; install it, or say `builder: oci`"
        )
    file = paths.output(recipe.name, "dockerfile") / "Dockerfile"
    log = paths.log(recipe.name, "image")
    _have_base(recipe, log)
    own = dockerfile.context(recipe)
    context = own if own.is_dir() else model
    digest = dockerengine.build(dockerfile.options(recipe), context, file, log)
    (folder / "digest").write_text(f"{digest}\n", encoding="utf-8")
    return {"digest": digest, "reference": f"{made.repository}:{made.tag}"}


def _have_base(recipe: Recipe, log: Path) -> None:
    """Load a base that is a file or folder into the engine; refuse one that it must not pull."""
    from .core.image import dockerengine

    made, named = present(recipe.image), dockerfile.base(recipe)
    base = bases.read(recipe) if bases.is_here(recipe) else None
    if base:
        dockerengine.load(named, base, lambda layer: bases.pieces(recipe, layer, 0), log)
    elif made.build.pull == "never" and named != bases.SCRATCH and not dockerengine.has(named):
        raise UserError(
            f"{recipe.file}: image.base: the engine has no {named}, and image.build.pull is "
            "never; pull it, or say `pull: missing`"
        )
