"""Push the same files as a ModelPack artifact (CNCF model-spec 0.0.7): a raw blob each.

Its tag is the image's with `-modelpack` behind it.
"""

from __future__ import annotations

import functools
import threading
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from .. import paths
from ..engine import digests, manifest
from ..engine.manifest import canonical
from ..model import modelfiles
from ..recipe import Recipe
from . import imagepush, oci
from .blobupload import Pieces, Progress
from .reference import Reference
from .registry import Registry

ARTIFACT = "application/vnd.cncf.model.manifest.v1+json"
CONFIG = "application/vnd.cncf.model.config.v1+json"
FILEPATH = "org.cncf.model.filepath"
WEIGHTS = frozenset({".safetensors", ".bin", ".pt", ".gguf", ".onnx"})
DOCUMENTS = frozenset({".md", ".txt", ".pdf"})


def push(there: Registry, image: Reference, recipe: Recipe) -> str:
    """Push the artifact; return its digest."""
    model = paths.output(recipe.name, recipe.weights)
    layers = [describe(model, name) for name in modelfiles.outgoing(model)]
    config = canonical(_config(recipe, layers))
    blob = {"mediaType": CONFIG, "digest": digests.of_bytes(config), "size": len(config)}
    progress = Progress(threading.Event())
    work = [
        functools.partial(
            imagepush.bring, there, image, layer, functools.partial(_read, model, layer), progress
        )
        for layer in {layer["digest"]: layer for layer in layers}.values()
    ]
    imagepush.side_by_side(work, progress)
    there.put_blob(image.repository, blob, config)
    made = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "artifactType": ARTIFACT,
        "config": blob,
        "layers": layers,
    }
    raw = canonical(made)
    there.put_manifest(replace(image, tag=f"{image.tag}-modelpack", digest=None), raw)
    return digests.of_bytes(raw)


def describe(model: Path, name: str) -> oci.Descriptor:
    """Return a file as the artifact has it."""
    path = model / name
    return {
        "mediaType": f"application/vnd.cncf.model.{_kind(name)}.v1.raw",
        "digest": digests.of_file(path),
        "size": path.stat().st_size,
        "annotations": {FILEPATH: name},
    }


def _kind(name: str) -> str:
    path = PurePosixPath(name)
    if path.suffix in WEIGHTS:
        return "weight"
    if path.suffix == ".py":
        return "code"
    return "doc" if path.suffix in DOCUMENTS or path.stem == "LICENSE" else "weight.config"


def _config(recipe: Recipe, layers: list[oci.Descriptor]) -> dict[str, Any]:
    receipt = manifest.of(recipe.name, recipe.weights)
    facts = receipt.facts if receipt else {}
    precision = {"precision": facts["dtype"]} if "dtype" in facts else {}
    return {
        "descriptor": {"name": recipe.name},
        "config": {"format": "safetensors", **precision},
        "modelfs": {"type": "layers", "diffIds": [layer["digest"] for layer in layers]},
    }


def _read(model: Path, layer: oci.Descriptor, start: int) -> Pieces:
    return modelfiles.pieces(model / layer["annotations"][FILEPATH], layer["size"], start)
