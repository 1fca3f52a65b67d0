"""Pack the model into merged.zip.

The files are stored, not deflated: weights hardly shrink, and a stored file can be read in place.
Equal models are equal archives: sorted names, mode 0644, the earliest date that zip knows.
"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from .core import console, modelfiles, paths
from .core.recipe import Recipe
from .core.stage import Facts, TaskDict

VERSION = 1

NAME = "merged.zip"
EARLIEST = (1980, 1, 1, 0, 0, 0)
UNIX = 3


def wanted(recipe: Recipe) -> bool:
    return True


def task(recipe: Recipe) -> TaskDict:
    return {
        "doc": f"model -> {NAME}",
        "file_dep": [paths.manifest(recipe.name, recipe.weights)],
        "targets": [NAME],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    return {"model": recipe.name, "left_out": list(modelfiles.LEFT_OUT)}


def entry(name: str, size: int) -> ZipInfo:
    """Return a file's entry; its size is known beforehand, so only big files get ZIP64 fields."""
    info = ZipInfo(name, EARLIEST)
    info.compress_type = ZIP_STORED
    info.create_system = UNIX
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    info.file_size = size
    return info


def run(recipe: Recipe, folder: Path) -> Facts:
    model = paths.output(recipe.name, recipe.weights)
    names = modelfiles.outgoing(model)
    with ZipFile(folder / NAME, "w", allowZip64=True) as archive:
        for name in names:
            console.status(f"packing {name}")
            size = (model / name).stat().st_size
            with archive.open(entry(f"{recipe.name}/{name}", size), "w") as target:
                for piece in modelfiles.pieces(model / name, size):
                    target.write(piece)
    console.clear()
    return {"packed": len(names)}
