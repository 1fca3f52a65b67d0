"""Build the image: an OCI layout without a daemon, or with a Docker engine.

What goes in: the finished model, and a base that is `scratch`, in a registry, in an OCI layout or
in an archive of `docker save`.
What comes out: an OCI image layout (image-spec 1.1) and `digest`, the image manifest's digest.
With a base in a registry, or `layout: false`, the layout holds no layers: `layers.json` says where
their bytes are, and `push` streams them from there.
`builder: docker` is for what needs RUN: the engine keeps the image, `digest` is its id there.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import dockerfile
from .core import bases, console, engine, layers, lints, modelfiles, oci, paths, stack, wheels
from .core.errors import UserError
from .core.recipe import Recipe
from .core.stage import Facts, TaskDict

VERSION = 2
# An engine's image is on this machine only, and a layout is quickly made from the model.
STORED = False

# Overlay file systems end at 122 to 128 layers; an image above that builds well and never starts.
MOST_LAYERS = 100
CREATED = "1970-01-01T00:00:00Z"
HASHERS = min(4, os.cpu_count() or 1)
LABEL = "org.opencontainers.image"


def wanted(recipe: Recipe) -> bool:
    return recipe.image is not None


def task(recipe: Recipe) -> TaskDict:
    base, built = dockerfile.image(recipe).base, dockerfile.image(recipe).builder == "docker"
    stages = [*(stage for stage, _ in dockerfile.sources(recipe)), *(["dockerfile"] * built)]
    return {
        "doc": f"{base} + model -> {'Docker engine' if built else 'OCI layout'}",
        "file_dep": [paths.manifest(recipe.name, stage) for stage in stages],
        "targets": ["digest", *([] if built else ["index.json", "layers.json", "oci-layout"])],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    if dockerfile.image(recipe).builder == "docker":
        return recipe.slice("image.builder", "image.build")
    return {
        "model": recipe.name,
        **recipe.slice("image.pip", "image.python", "image.env", "image.labels"),
        "image.base": bases.identity(recipe),
        "stored": is_stored(recipe),
        "image.entrypoint": dockerfile.entrypoint(recipe),
        "left_out": list(modelfiles.LEFT_OUT),
    }


def settle(recipe: Recipe) -> None:
    """Lock the digest of the base before the inputs are read."""
    if dockerfile.image(recipe).builder == "oci":
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
    set_ = {**_wheels_path(own, env), **made.env}
    env.update({name: f"{name}={value}" for name, value in set_.items()})
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


def _wheels_path(own: list[stack.Layer], env: dict[str, str]) -> dict[str, str]:
    """Return the variable that makes Python see unpacked wheels, before what the base has in it."""
    if not any(layer.root == wheels.ROOT for layer in own):
        return {}
    before = env.get("PYTHONPATH", "").partition("=")[2]
    place = f"/{wheels.ROOT}/{wheels.FOLDER}"
    return {"PYTHONPATH": f"{place}:{before}" if before else place}


def _told(layer: stack.Layer) -> str:
    count = len(layer.files)
    return f"COPY {layer.files[0] if count == 1 else f'{count} files'} /{layer.root}"


def drifted(recipe: Recipe) -> bool:
    """Return whether a Docker engine that built the image no longer has it."""
    if dockerfile.image(recipe).builder != "docker":
        return False
    path = paths.output(recipe.name, "image") / "digest"
    return not engine.has(path.read_text(encoding="utf-8").strip())


def run(recipe: Recipe, folder: Path) -> Facts:
    dockerfile.lint(recipe)
    for stage, root in dockerfile.sources(recipe):
        if root == layers.ROOT:
            model = paths.output(recipe.name, stage)
            lints.check(recipe, lints.of_files(recipe, model, modelfiles.outgoing(model)))
    if dockerfile.image(recipe).builder == "docker":
        return _run_engine(recipe, folder)
    base = bases.read(recipe)
    below = base.layers if base else ()
    packages = wheels.missing(recipe)
    wheel_files = wheels.install(recipe, base, packages, folder) if packages else []
    own = _own_layers(recipe, folder, MOST_LAYERS - len(below), wheel_files)
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


def _run_engine(recipe: Recipe, folder: Path) -> Facts:
    made, model = dockerfile.image(recipe), paths.output(recipe.name, recipe.weights)
    engine.version()
    if made.build.pull == "never" and made.base != bases.SCRATCH and not engine.has(made.base):
        raise UserError(
            f"{recipe.file}: image.base: the engine has no {made.base}, and image.build.pull is "
            "never; pull it, or say `pull: missing`"
        )
    file = paths.output(recipe.name, "dockerfile") / "Dockerfile"
    log = paths.log(recipe.name, "image")
    own = dockerfile.context(recipe)
    context = own if own.is_dir() else model
    digest = engine.build(dockerfile.options(recipe), context, file, log)
    (folder / "digest").write_text(f"{digest}\n", encoding="utf-8")
    return {"digest": digest, "reference": f"{made.repository}:{made.tag}"}


def is_stored(recipe: Recipe) -> bool:
    """Return whether the layout holds the layers; else a push streams them from where they are."""
    asked = dockerfile.image(recipe).layout
    return bases.remote(recipe) is None if asked is None else asked


def _own_layers(
    recipe: Recipe, folder: Path, most: int, wheel_files: list[str]
) -> list[stack.Layer]:
    """Return our layers, hashed, and written into the layout where it holds them."""
    plan = _plan(recipe, most - bool(wheel_files))
    if wheel_files:
        above = tuple(layers.folders(wheel_files, wheels.ROOT))
        plan.insert(
            0, stack.Layer(oci.LAYER, "", 0, "", "image", wheels.ROOT, above, tuple(wheel_files))
        )
    before = stack.read(paths.output(recipe.name, "image"))
    known = {layer.content: layer for layer in before if layer.is_ours}
    console.status(f"hashing {len(plan)} layers")
    with ThreadPoolExecutor(HASHERS) as pool:
        made = list(pool.map(functools.partial(_own_layer, recipe, folder, known), plan))
    console.clear()
    return made


def _plan(recipe: Recipe, most: int) -> list[stack.Layer]:
    """Return which files go into which of our layers, as layers without digest and size."""
    found: list[stack.Layer] = []
    sources = dockerfile.sources(recipe)
    if most < 2 * len(sources):
        allowed = MOST_LAYERS - 2 * len(sources)
        raise UserError(f"image.base: too many layers; the base may have {allowed}")
    for number, (stage, root) in enumerate(sources, 1):
        model = paths.output(recipe.name, stage)
        sizes = {path: (model / path).stat().st_size for path in modelfiles.outgoing(model)}
        rest = most - len(found) - 2 * (len(sources) - number)
        above = tuple(layers.folders(sizes, root))
        wished = sum(size >= layers.BIG for size in sizes.values()) + 1
        lints.check(recipe, lints.of_layers(min(wished, rest), rest, wished))
        if is_stored(recipe):
            lints.check(recipe, lints.of_disk(sum(sizes.values())))
        for names in layers.plan(sizes, rest, layers.BIG):
            layer = stack.Layer(oci.LAYER, "", 0, "", stage, root, above, tuple(names))
            found.append(layer)
            above = ()
    return found


def _own_layer(
    recipe: Recipe, folder: Path, known: dict[str, stack.Layer], planned: stack.Layer
) -> stack.Layer:
    is_result = planned.stage != "image"
    model = paths.output(recipe.name, planned.stage) if is_result else folder
    names = planned.files
    content = stack.content(model, planned.root, planned.above, names)
    before, same = paths.output(recipe.name, "image"), known.get(content)
    sizes = {path: (model / path).stat().st_size for path in names}
    parts = layers.parts(model, sizes, names, planned.above, planned.root)
    if not is_stored(recipe):
        descriptor = same.descriptor if same else oci.describe(layers.read(parts), oci.LAYER)
    elif same and oci.holds(before, same.digest):
        descriptor = same.descriptor
        oci.take(folder, before, descriptor)
    else:
        descriptor = oci.write_blob(folder, layers.read(parts), oci.LAYER)
    return replace(planned, **descriptor, content=content)


def _origin(base: oci.Image | None) -> dict[str, str]:
    """Return the labels on the base: its digest, and its name where the layout has it."""
    if base is None:
        return {}
    name = (base.descriptor.get("annotations") or {}).get(f"{LABEL}.ref.name", "")
    named = {f"{LABEL}.base.name": name} if ":" in name else {}
    # An archive has no manifest, and so no digest that a registry knows.
    known = {f"{LABEL}.base.digest": base.descriptor["digest"]} if "size" in base.descriptor else {}
    return {**known, **named}
