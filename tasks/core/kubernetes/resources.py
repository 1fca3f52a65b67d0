"""What a server of a model takes: the recipe's word, else a rule of thumb over its weights."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from pathlib import Path

from .. import paths
from ..model import modelfiles
from ..recipe import Recipe, present
from ..sources import lockfile

GB = 1_000_000_000
# Where nothing tells the size of the weights: a model of seven billion parameters.
UNKNOWN = 16 * GB
# Beside the weights: CUDA and vLLM's own in each GPU; Python, tokenizer and reading in the host.
BESIDE_GPU, BESIDE_HOST = 2, 8
CPUS = 4


@dataclass(frozen=True)
class Resources:
    """Gigabytes of each GPU and of the host, and processors."""

    gpus: int
    gpu_memory: int
    cpu: int
    memory: int


def of(recipe: Recipe) -> Resources:
    """Return what the recipe says; for the rest, weights and a fifth for the cache of chats."""
    own, size = present(recipe.onboard), weights(recipe) or UNKNOWN
    return Resources(
        own.gpus,
        own.gpu_memory or ceil(1.2 * size / GB / own.gpus) + BESIDE_GPU,
        own.cpu or CPUS,
        own.memory or ceil(size / GB) + BESIDE_HOST,
    )


def weights(recipe: Recipe) -> int:
    """Return the bytes of the base's weights, by its lock or a folder here; 0 where none tells."""
    listed = lockfile.read(recipe, "base").get("files") or {}
    sizes = {name: int(file["size"]) for name, file in listed.items()}
    own = recipe.base.path
    return modelfiles.weights(sizes) or modelfiles.weights(
        _sizes(recipe.beside(own) if own else paths.output(recipe.name, "base"))
    )


def _sizes(folder: Path) -> dict[str, int]:
    there = folder.glob("*") if folder.is_dir() else ()
    return {path.name: path.stat().st_size for path in there if path.is_file()}
