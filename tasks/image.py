"""Build the image as an OCI layout, without a daemon.

What goes in: the finished model, and a base that is `scratch`, in a registry or an OCI layout on
this machine.
What comes out: an OCI image layout (image-spec 1.1) and `digest`, the image manifest's digest.
With a base in a registry, or `layout: false`, the layout holds no layers: `layers.json` says where
their bytes are, and `push` streams them from there.
Not here: RUN lines, which need an engine, and the image's name, which the layout does not hold.
"""

from __future__ import annotations

import functools
import os
import shlex
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import dockerfile
from .core import bases, console, layers, modelfiles, oci, paths, stack
from .core.errors import UserError
from .core.recipe import Recipe
from .core.stage import Facts, TaskDict

VERSION = 2

# Overlay file systems end at 122 to 128 layers; an image above that builds well and never starts.
MOST_LAYERS = 100
CREATED = "1970-01-01T00:00:00Z"
HASHERS = min(4, os.cpu_count() or 1)
LABEL = "org.opencontainers.image"


def wanted(recipe: Recipe) -> bool:
    return recipe.image is not None


def task(recipe: Recipe) -> TaskDict:
    return {
        "doc": f"{dockerfile.image(recipe).base} + model -> OCI layout",
        "file_dep": [paths.manifest(recipe.name, recipe.weights)],
        "targets": ["digest", "index.json", "oci-layout"],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    return {
        "model": recipe.name,
        **recipe.slice("image.pip", "image.env", "image.labels"),
        "image.base": bases.identity(recipe),
        "stored": is_stored(recipe),
        "image.entrypoint": dockerfile.entrypoint(recipe),
        "left_out": list(modelfiles.LEFT_OUT),
    }


def settle(recipe: Recipe) -> None:
    """Lock the digest of the base before the inputs are read."""
    bases.settle(recipe)


def config(
    recipe: Recipe, base: oci.Image | None, entrypoint: list[str], own: list[stack.Layer]
) -> oci.Json:
    """Return the image's config (image-spec: config.md): the base's, with our layers and command.

    Args:
        base: the image below, if any.
        entrypoint: the command; it also ends the base's default arguments.
        own: our layers.
    """
    below: oci.Json = base.config if base else {"architecture": "amd64", "os": "linux"}
    process = {name: value for name, value in (below.get("config") or {}).items() if name != "Cmd"}
    made = dockerfile.image(recipe)
    labels = {f"{LABEL}.title": recipe.name, **_origin(base), **made.labels}
    env = {line.partition("=")[0]: line for line in process.get("Env") or []}
    env.update({name: f"{name}={value}" for name, value in made.env.items()})
    if env:
        process["Env"] = list(env.values())
    diff_ids = base.diff_ids if base else []
    history = [{"created": CREATED, "created_by": _told(layer)} for layer in own]
    return {
        **below,
        "created": CREATED,
        "config": {
            **process,
            "Entrypoint": entrypoint,
            "Labels": {**(process.get("Labels") or {}), **labels},
        },
        "rootfs": {"type": "layers", "diff_ids": [*diff_ids, *(layer.digest for layer in own)]},
        "history": [*(below.get("history") or []), *history],
    }


def _told(layer: stack.Layer) -> str:
    count = len(layer.files)
    return f"COPY {layer.files[0] if count == 1 else f'{count} files'} /{layers.ROOT}"


def run(recipe: Recipe, folder: Path) -> Facts:
    _refuse_what_needs_an_engine(recipe)
    base = bases.read(recipe)
    below = base.layers if base else ()
    own = _own_layers(recipe, folder, MOST_LAYERS - len(below))
    if is_stored(recipe):
        bases.store(recipe, folder, below)
    made = config(recipe, base, dockerfile.entrypoint(recipe), own)
    lower = [stack.Layer(**layer, origin=bases.origin(recipe)) for layer in below]
    layers_ = [*lower, *own]
    digest = oci.write_image(folder, made, [layer.descriptor for layer in layers_])["digest"]
    stack.write(folder, layers_)
    (folder / "digest").write_text(f"{digest}\n", encoding="utf-8")
    if is_stored(recipe):
        oci.verify(folder)
    return {"digest": digest, "layers": len(layers_), "bytes": sum(one.size for one in layers_)}


def is_stored(recipe: Recipe) -> bool:
    """Return whether the layout holds the layers; else a push streams them from where they are."""
    asked = dockerfile.image(recipe).layout
    return bases.remote(recipe) is None if asked is None else asked


def _own_layers(recipe: Recipe, folder: Path, most: int) -> list[stack.Layer]:
    """Return the model's layers, hashed, and written into the layout where it holds them."""
    if most < 2:
        raise UserError(f"image.base: too many layers; the base may have {MOST_LAYERS - 2}")
    model = paths.output(recipe.name, recipe.weights)
    sizes = {path: (model / path).stat().st_size for path in modelfiles.outgoing(model)}
    plan = layers.plan(sizes, most, layers.BIG)
    above = layers.folders(sizes)
    console.status(f"{len(plan)} layers, {console.size(sum(sizes.values()))}")
    before = paths.output(recipe.name, "image")
    known = {layer.content: layer for layer in stack.read(before) if layer.is_ours}
    tops = [tuple(() if number else above) for number in range(len(plan))]
    with ThreadPoolExecutor(HASHERS) as pool:
        work = functools.partial(_own_layer, recipe, folder, sizes, known)
        made = list(pool.map(work, tops, map(tuple, plan)))
    console.clear()
    return made


def _own_layer(
    recipe: Recipe,
    folder: Path,
    sizes: dict[str, int],
    known: dict[str, stack.Layer],
    above: tuple[str, ...],
    names: tuple[str, ...],
) -> stack.Layer:
    model = paths.output(recipe.name, recipe.weights)
    content = stack.content(model, above, names)
    before, same = paths.output(recipe.name, "image"), known.get(content)
    parts = layers.parts(model, sizes, names, above)
    if not is_stored(recipe):
        descriptor = same.descriptor if same else oci.describe(layers.read(parts), oci.LAYER)
    elif same and oci.holds(before, same.digest):
        descriptor = same.descriptor
        oci.take(folder, before, descriptor)
    else:
        descriptor = oci.write_blob(folder, layers.read(parts), oci.LAYER)
    return stack.Layer(**descriptor, above=above, files=names, content=content)


def _origin(base: oci.Image | None) -> dict[str, str]:
    """Return the labels on the base: its digest, and its name where the layout has it."""
    if base is None:
        return {}
    name = (base.descriptor.get("annotations") or {}).get(f"{LABEL}.ref.name", "")
    named = {f"{LABEL}.base.name": name} if ":" in name else {}
    return {f"{LABEL}.base.digest": base.descriptor["digest"], **named}


def _refuse_what_needs_an_engine(recipe: Recipe) -> None:
    if dockerfile.image(recipe).pip:
        engine = shlex.join(dockerfile.command(recipe))
        raise UserError(
            f"{recipe.file}: image.pip: packages cannot be installed without a Docker engine; put "
            f"them into the base and take this key out\nor build with a Docker engine: `{engine}`"
        )
