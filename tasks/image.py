"""Build the image as an OCI layout, without a daemon.

What goes in: the finished model, and a base that is `scratch` or an OCI layout on this machine.
What comes out: an OCI image layout (image-spec 1.1) and `digest`, the image manifest's digest.
Not here: RUN lines, which need an engine, and the image's name, which the layout does not hold.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from . import dockerfile
from .core import console, digests, layers, modelfiles, oci, paths
from .core.errors import UserError
from .core.recipe import Recipe
from .core.stage import Facts, TaskDict

VERSION = 1

# Overlay file systems end at 122 to 128 layers; an image above that builds well and never starts.
MOST_LAYERS = 100
CREATED = "1970-01-01T00:00:00Z"
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
        **recipe.slice("image.pip"),
        "image.base": _identity(recipe),
        "image.entrypoint": dockerfile.entrypoint(recipe),
        "left_out": list(modelfiles.LEFT_OUT),
    }


def config(
    base: oci.Image | None, model: str, entrypoint: list[str], own: list[tuple[oci.Descriptor, str]]
) -> oci.Json:
    """Return the image's config (image-spec: config.md): the base's, with our layers and command.

    Args:
        base: the image below, if any.
        model: the model's name.
        entrypoint: the command; it also ends the base's default arguments.
        own: our layers with a line on the origin of each.
    """
    below: oci.Json = base.config if base else {"architecture": "amd64", "os": "linux"}
    process = {name: value for name, value in (below.get("config") or {}).items() if name != "Cmd"}
    labels = {**(process.get("Labels") or {}), f"{LABEL}.title": model, **_origin(base)}
    diff_ids = base.diff_ids if base else []
    history = [{"created": CREATED, "created_by": origin} for _, origin in own]
    return {
        **below,
        "created": CREATED,
        "config": {**process, "Entrypoint": entrypoint, "Labels": labels},
        "rootfs": {
            "type": "layers",
            "diff_ids": [*diff_ids, *(layer["digest"] for layer, _ in own)],
        },
        "history": [*(below.get("history") or []), *history],
    }


def run(recipe: Recipe, folder: Path) -> Facts:
    _refuse_what_needs_an_engine(recipe)
    place = dockerfile.layout(recipe)
    base = oci.read(place) if place else None
    below = base.layers if base else ()
    for layer in below:
        assert place is not None
        oci.take(folder, place, layer)
    own = _own_layers(paths.output(recipe.name, recipe.weights), folder, MOST_LAYERS - len(below))
    made = config(base, recipe.name, dockerfile.entrypoint(recipe), own)
    stack = [*below, *(layer for layer, _ in own)]
    digest = oci.write_image(folder, made, stack)["digest"]
    (folder / "digest").write_text(f"{digest}\n", encoding="utf-8")
    oci.verify(folder)
    return {"digest": digest, "layers": len(stack), "bytes": sum(layer["size"] for layer in stack)}


def _own_layers(model: Path, layout: Path, most: int) -> list[tuple[oci.Descriptor, str]]:
    """Write the model's layers and return each with a line on its origin."""
    if most < 2:
        raise UserError(f"image.base: too many layers; the base may have {MOST_LAYERS - 2}")
    sizes = {path: (model / path).stat().st_size for path in modelfiles.outgoing(model)}
    plan = layers.plan(sizes, most, layers.BIG)
    above = layers.folders(sizes)
    own = []
    for number, names in enumerate(plan):
        console.status(f"layer {number + 1} of {len(plan)}, {console.size(sum(sizes.values()))}")
        stream = layers.tar(model, sizes, names, () if number else above)
        origin = names[0] if len(names) == 1 else f"{len(names)} files"
        own.append((oci.write_blob(layout, stream, oci.LAYER), f"COPY {origin} /{layers.ROOT}"))
    console.clear()
    return own


def _identity(recipe: Recipe) -> str:
    """Return what tells one base from the next: the content, not the folder it lies in."""
    place = dockerfile.layout(recipe)
    if place is None:
        return dockerfile.image(recipe).base
    index = place / "index.json"
    if not index.is_file():
        oci.read(place)
    return digests.of_file(index)


def _origin(base: oci.Image | None) -> dict[str, str]:
    """Return the labels on the base: its digest, and its name where the layout has it."""
    if base is None:
        return {}
    name = (base.descriptor.get("annotations") or {}).get(f"{LABEL}.ref.name", "")
    named = {f"{LABEL}.base.name": name} if ":" in name else {}
    return {f"{LABEL}.base.digest": base.descriptor["digest"], **named}


def _refuse_what_needs_an_engine(recipe: Recipe) -> None:
    made, faults = dockerfile.image(recipe), []
    if made.base != "scratch" and dockerfile.layout(recipe) is None:
        faults.append(
            "image.base: pulling a base from a registry is not built in yet; fetch it with "
            f"`skopeo copy docker://{made.base} oci:FOLDER` and write `base: oci:FOLDER`"
        )
    if made.pip:
        faults.append(
            "image.pip: packages cannot be installed without a Docker engine; put them into the "
            "base and take this key out"
        )
    if faults:
        engine = shlex.join(dockerfile.command(recipe))
        lines = [f"{recipe.file}: {fault}" for fault in faults]
        raise UserError("\n".join([*lines, f"or build with a Docker engine: `{engine}`"]))
