"""Files that a recipe names: found, judged and linked, never written to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import digests, manifest
from .errors import UserError
from .recipe import Recipe
from .sections import Source

# What a download leaves beside the files that were asked for.
NOT_OURS = frozenset({".git", ".cache", ".gitattributes", ".DS_Store", "__pycache__"})


def local(recipe: Recipe, source: Source, at: str) -> Path:
    """Return the folder of a local source.

    Args:
        at: the key path in the recipe, for messages.

    Raises:
        UserError: there is no such folder.
    """
    if source.path is None:
        raise UserError(
            f"{recipe.file}: {at}.hub: {source.hub} is not fetched from the Hub yet; download it "
            f"with `hf download {source.hub} --revision {source.revision} --local-dir FOLDER` "
            f"and say `{at}: {{path: FOLDER}}`"
        )
    folder = recipe.beside(source.path)
    if not folder.is_dir():
        raise UserError(f"{recipe.file}: {at}.path: no folder {folder}; correct the path")
    return folder


def files(folder: Path) -> list[Path]:
    """Return the files of a source below its folder, in order.

    Raises:
        UserError: a link to a folder or to nowhere, or a name that cannot be written down.
    """
    found = [
        path
        for path in manifest.walk(folder)
        if not NOT_OURS.intersection(path.relative_to(folder).parts)
    ]
    for path in found:
        if path.name == manifest.NAME and path.parent == folder:
            raise UserError(f"{path}: this name is ours; move the file away")
        if not path.is_file():
            raise UserError(
                f"{path}: a link to a folder or to nowhere, or no plain file; remove or mend it"
            )
        if not path.name.isprintable() or not str(path.relative_to(folder)).isprintable():
            raise UserError(f"{str(path)!r}: a name that not every tool reads alike; rename it")
    return found


def fingerprint(folder: Path) -> str:
    """Return the digest of all files' names and contents."""
    return manifest.digest_of(
        [[str(path.relative_to(folder)), digests.of_file(path)] for path in files(folder)]
    )


def link(folder: Path, into: Path) -> int:
    """Link every file of a source into a stage's folder; return how many."""
    found = files(folder)
    for path in found:
        place = into / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path.resolve())
    return len(found)


def key(recipe: Recipe, source: Source, at: str) -> dict[str, Any]:
    """Return what a source contributes to a key: its content, wherever it lies."""
    return {f"{at}.files": fingerprint(local(recipe, source, at))}
