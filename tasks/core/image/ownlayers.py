"""The layers that hold the model and what is added to it: planned, hashed, perhaps written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from .. import console, paths
from ..model import modelfiles
from ..recipe import Recipe
from . import layers, layouts, lints, oci, stack, wheels

HASHERS = min(4, os.cpu_count() or 1)


def make(
    recipe: Recipe,
    folder: Path,
    sources: Sequence[tuple[str, str]],
    wheel_files: Sequence[str],
    most: int,
    *,
    stored: bool,
) -> list[stack.Layer]:
    """Return our layers, hashed; a layer that the last image had is not hashed again.

    Args:
        folder: the scratch folder of the stage `image`.
        sources: the stages whose files go in, each with its folder in the image.
        wheel_files: unpacked wheels below the scratch folder.
        most: how many layers there may be.
        stored: whether the layers are written into the layout in the scratch folder.

    Raises:
        UserError: the disk is too small, or a file cannot be packed.
    """
    plan = _plan(recipe, sources, most - bool(wheel_files), stored=stored)
    if wheel_files:
        above = tuple(layers.folders(wheel_files, wheels.ROOT))
        plan.insert(0, _planned("image", wheels.ROOT, above, wheel_files))
    before = stack.read(paths.output(recipe.name, "image"))
    known = {layer.content: layer for layer in before if layer.is_ours}
    console.status(f"hashing {len(plan)} layers")

    def one(planned: stack.Layer) -> stack.Layer:
        model = folder if planned.stage == "image" else paths.output(recipe.name, planned.stage)
        content = stack.content(model, planned.root, planned.above, planned.files)
        layout, same = folder if stored else None, known.get(content)
        descriptor = _describe(recipe, layout, model, planned, same)
        return replace(planned, **descriptor, content=content)

    with ThreadPoolExecutor(HASHERS) as pool:
        made = list(pool.map(one, plan))
    console.clear()
    return made


def _plan(
    recipe: Recipe, sources: Sequence[tuple[str, str]], most: int, *, stored: bool
) -> list[stack.Layer]:
    """Return which files go into which of our layers, as layers without digest and size."""
    found: list[stack.Layer] = []
    for number, (stage, root) in enumerate(sources, 1):
        model = paths.output(recipe.name, stage)
        sizes = {path: (model / path).stat().st_size for path in modelfiles.outgoing(model)}
        rest = most - len(found) - 2 * (len(sources) - number)
        wished = sum(size >= layers.BIG for size in sizes.values()) + 1
        lints.check(recipe, lints.of_layers(min(wished, rest), rest, wished))
        if stored:
            lints.check(recipe, lints.of_disk(sum(sizes.values())))
        above = tuple(layers.folders(sizes, root))
        for names in layers.plan(sizes, rest, layers.BIG):
            found.append(_planned(stage, root, above, names))
            above = ()
    return found


def _planned(stage: str, root: str, above: tuple[str, ...], names: Sequence[str]) -> stack.Layer:
    return stack.Layer(oci.LAYER, "", 0, "", stage, root, above, tuple(names))


def _describe(
    recipe: Recipe,
    layout: Path | None,
    model: Path,
    planned: stack.Layer,
    same: stack.Layer | None,
) -> oci.Descriptor:
    """Return a layer's descriptor; its bytes are written where there is a layout for them."""
    sizes = {path: (model / path).stat().st_size for path in planned.files}
    parts = layers.parts(model, sizes, planned.files, planned.above, planned.root)
    if layout is None:
        return same.descriptor if same else oci.describe(layers.read(parts), oci.LAYER)
    before = paths.output(recipe.name, "image")
    if same and layouts.holds(before, same.digest):
        layouts.take(layout, before, same.descriptor)
        return same.descriptor
    return layouts.write_blob(layout, layers.read(parts), oci.LAYER)
