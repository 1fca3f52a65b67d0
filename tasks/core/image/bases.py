"""The image that a model's image stands on: in a registry, a layout, an archive, or none.

A base in a registry is settled to a digest once, in the recipe's lock; its layers stay where they
are until a push needs them elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .. import console
from ..engine import digests
from ..errors import UserError
from ..model import modelfiles
from ..recipe import Recipe, present
from ..sources import lockfile
from . import reference
from .reference import Reference

if TYPE_CHECKING:
    from . import oci
    from .registry import Registry

SCRATCH = "scratch"
LAYOUT = "oci:"
ARCHIVE = "docker-archive:"
# A config or manifest of more than this is none.
_MOST = 16 << 20


def name(recipe: Recipe) -> str:
    """Return the base as the recipe has it."""
    return present(recipe.image).base


def is_here(recipe: Recipe) -> bool:
    """Return whether the base is a folder or file of this machine."""
    return name(recipe).startswith((LAYOUT, ARCHIVE))


def layout(recipe: Recipe) -> Path | None:
    """Return the folder of a base that is an OCI layout."""
    base = name(recipe)
    return recipe.beside(base.removeprefix(LAYOUT)) if base.startswith(LAYOUT) else None


def archive(recipe: Recipe) -> Path | None:
    """Return the file of a base that `docker save` wrote."""
    base = name(recipe)
    return recipe.beside(base.removeprefix(ARCHIVE)) if base.startswith(ARCHIVE) else None


def remote(recipe: Recipe) -> Reference | None:
    """Return the name of a base that is in a registry, with its digest where that is settled."""
    base = name(recipe)
    if base == SCRATCH or is_here(recipe):
        return None
    asked = reference.parse(base)
    if asked.digest:
        return asked
    locked = str(lockfile.read(recipe, "image").get("base", ""))
    return reference.parse(locked) if locked.startswith(f"{asked}@") else asked


def identity(recipe: Recipe) -> str:
    """Return what tells one base from the next: the content, not the folder it lies in."""
    folder, file = layout(recipe), archive(recipe)
    told = folder / "index.json" if folder else file
    if told is None:
        return str(remote(recipe) or SCRATCH)
    if not told.is_file():
        read(recipe)  # which says what is wrong
    return digests.of_file(told)


def settle(recipe: Recipe) -> None:
    """Look a base's tag up in its registry and lock the digest, unless that is done.

    Raises:
        UserError: the registry does not answer or has no such image.
    """
    found = remote(recipe)
    if found and not found.digest:
        _settle(recipe, found)


def update(recipe: Recipe) -> None:
    """Look a base's tag up anew, whatever the lock says.

    Raises:
        UserError: as for `settle`.
    """
    asked = reference.parse(name(recipe)) if remote(recipe) else None
    if asked and not asked.digest:
        _settle(recipe, asked)


def _settle(recipe: Recipe, asked: Reference) -> None:
    from .registry import Registry

    with Registry(asked.host) as there:
        digest = there.digest(asked)
    if digest is None:
        raise UserError(f"{recipe.file}: image.base: {asked}: no such image there; correct it")
    settled = str(asked.at(digest))
    if lockfile.read(recipe, "image").get("base") != settled:
        console.say(f"   image.base: {settled}")
    lockfile.update(recipe, "image", base=settled)


def read(recipe: Recipe) -> oci.Image | None:
    """Return the base, or None for `scratch`.

    Raises:
        UserError: it is not there or is not sound.
    """
    from . import dockerarchive, layouts

    place, file = layout(recipe), archive(recipe)
    if file:
        return dockerarchive.read(file)
    if place:
        return layouts.read(place)
    found = remote(recipe)
    if found is None:
        return None
    from .registry import Registry

    with Registry(found.host) as there:
        return _fetch(there, found)


def origin(recipe: Recipe) -> str:
    """Return where the base's layers are, as the list of an image's layers has it."""
    found = remote(recipe)
    return f"{found.host}/{found.repository}" if found else name(recipe)


def store(recipe: Recipe, folder: Path, layers: tuple[oci.Descriptor, ...]) -> None:
    """Have the base's layers in another layout: linked, copied or pulled.

    Raises:
        UserError: one is missing or damaged.
    """
    from . import dockerarchive, layouts

    place, found, file = layout(recipe), remote(recipe), archive(recipe)
    if file:
        for layer in layers:
            _keep(str(file), layer, folder, dockerarchive.pieces(file, layer))
    elif place:
        for layer in layers:
            layouts.take(folder, place, layer)
    elif found:
        from .registry import Registry

        with Registry(found.host) as there:
            for layer in layers:
                whole = there.read_whole(found.repository, layer)
                _keep(str(found), layer, folder, whole)


def pieces(recipe: Recipe, layer: oci.Descriptor, start: int) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a layer of a base on this machine, from an offset on."""
    from . import dockerarchive, layouts

    place, file = layout(recipe), archive(recipe)
    if file:
        return dockerarchive.pieces(file, layer, start)
    assert place is not None
    return modelfiles.pieces(layouts.check(place, layer), layer["size"], start)


def _keep(
    where: str, layer: oci.Descriptor, folder: Path, content: Iterable[bytes | memoryview]
) -> None:
    """Write a layer of the base into a layout, if it is what its digest says."""
    from . import layouts

    if layouts.write_blob(folder, content, layer["mediaType"])["digest"] != layer["digest"]:
        raise UserError(f"{where}: a layer has another content than its digest; get it anew")


def _fetch(there: Registry, asked: Reference) -> oci.Image:
    """Return a registry's image for our platform."""
    from . import oci

    found, content = there.manifest(asked)
    if oci.as_oci(found["mediaType"]) == oci.INDEX:
        found, content = there.manifest(asked.at(oci.choose(json.loads(content))["digest"]))
    kind = oci.as_oci(found["mediaType"])
    if kind != oci.MANIFEST:
        raise UserError(f"{asked}: {kind or 'no media type'}: not an image that can be a base")
    try:
        manifest = json.loads(content)
        config = manifest["config"]
        if not 0 < config["size"] <= _MOST:
            raise UserError(f"{asked}: not an image; take another as base")
        raw = b"".join(there.read_whole(asked.repository, config))
        if digests.of_bytes(raw) != config["digest"]:
            raise UserError(f"{asked}: its config has another digest; ask who runs the registry")
        descriptor = {**found, "mediaType": oci.MANIFEST}
        named = {"annotations": {"org.opencontainers.image.ref.name": str(asked)}}
        return oci.parse({**descriptor, **named}, manifest, json.loads(raw))
    except (ValueError, LookupError, TypeError):
        raise UserError(f"{asked}: not a sound image; take another as base") from None
