"""Read, write and check an OCI image layout (image-spec: image-layout.md).

A layout that others made is not trusted: no digest becomes a path before it has a digest's form,
and no blob is taken over before size and digest are right.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ..engine import digests
from ..engine.manifest import canonical
from ..errors import UserError
from ..model import modelfiles
from . import oci
from .oci import Descriptor, Image, Json


def holds(layout: Path, digest: str) -> bool:
    """Return whether a layout has a blob; its content is not looked at."""
    return place(layout, digest).is_file()


def write_blob(layout: Path, pieces: Iterable[bytes | memoryview], media_type: str) -> Descriptor:
    """Write a blob and return its descriptor; it is hashed on its way to the disk."""
    folder = layout / "blobs" / "sha256"
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".partial-{threading.get_ident()}"
    sha, size = hashlib.sha256(), 0
    with partial.open("wb") as file:
        for piece in pieces:
            sha.update(piece)
            size += file.write(piece)
    digest = f"sha256:{sha.hexdigest()}"
    path = place(layout, digest)
    partial.replace(path)
    digests.remember(path, digest)
    return {"mediaType": media_type, "digest": digest, "size": size}


def write_image(layout: Path, config: Json, layers: Iterable[Descriptor]) -> Descriptor:
    """Write config, image manifest and index over layers that are there; return the manifest's."""
    manifest = {
        "schemaVersion": 2,
        "mediaType": oci.MANIFEST,
        "config": write_blob(layout, [canonical(config)], oci.CONFIG),
        "layers": list(layers),
    }
    descriptor = write_blob(layout, [canonical(manifest)], oci.MANIFEST)
    platform = {name: config[name] for name in oci.PLATFORM}
    index = {
        "schemaVersion": 2,
        "mediaType": oci.INDEX,
        "manifests": [{**descriptor, "platform": platform}],
    }
    (layout / "index.json").write_bytes(canonical(index))
    (layout / "oci-layout").write_bytes(canonical({"imageLayoutVersion": "1.0.0"}))
    return descriptor


def read(layout: Path) -> Image:
    """Return a layout's image for linux/amd64, or its only one.

    Raises:
        UserError: there is no layout, or not exactly one such image; or its JSON is damaged.
    """
    try:
        index = json.loads((layout / "index.json").read_bytes())
        descriptor = oci.pick(layout, {found["digest"]: found for found in _images(layout, index)})
        manifest = _load(layout, descriptor)
        config = _load(layout, manifest["config"])
        image = Image(descriptor, config, tuple(map(oci.layer, manifest["layers"])))
        if len(image.diff_ids) != len(image.layers):
            raise UserError(f"{layout}: the image's config and manifest differ on the layers")
        for digest in (*image.diff_ids, *(layer["digest"] for layer in image.layers)):
            place(layout, digest)
        return image
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{layout}: no OCI layout there; make one: `skopeo copy docker://IMAGE oci:{layout}`"
        ) from None
    except (ValueError, LookupError, TypeError, AttributeError):
        raise UserError(f"{layout}: not a sound OCI layout; copy it anew") from None


def verify(layout: Path) -> Image:
    """Return a layout's image after a look at every blob of it.

    Raises:
        UserError: a blob is missing, or its size or digest is wrong.
    """
    image = read(layout)
    for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
        check(layout, layer)
        if layer["mediaType"] == oci.LAYER and layer["digest"] != diff_id:
            raise UserError(f"{layout}: {diff_id} in the config is not its layer's digest")
    return image


def check(layout: Path, descriptor: Descriptor) -> Path:
    """Return the path of a blob that is what its descriptor says.

    Raises:
        UserError: it is not.
    """
    path = place(layout, descriptor["digest"])
    if not path.is_file():
        raise UserError(f"{path}: the blob is missing; copy the layout anew")
    size = path.stat().st_size
    if size != descriptor["size"]:
        raise UserError(f"{path}: {size} bytes, not {descriptor['size']}; copy the layout anew")
    if digests.of_file(path) != descriptor["digest"]:
        raise UserError(f"{path}: the content has another digest; copy the layout anew")
    return path


def take(layout: Path, other: Path, descriptor: Descriptor) -> None:
    """Have a blob of another layout in this one: linked where the disk allows it, else copied.

    Raises:
        UserError: it is missing, or its size or digest is wrong.
    """
    target = place(layout, descriptor["digest"])
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        source = check(other, descriptor).resolve()
        state = digests.state_of(source)
        try:
            os.link(source, target)
        except OSError:
            write_blob(layout, modelfiles.pieces(source, descriptor["size"]), "")
        else:
            # A link changes nothing but the time of the inode's last change.
            if digests.state_of(target)[:4] == state[:4]:
                digests.remember(target, descriptor["digest"])
    check(layout, descriptor)


def place(layout: Path, digest: str) -> Path:
    """Return the path of a blob.

    Raises:
        UserError: the digest has not the form of one.
    """
    if not oci.DIGEST.fullmatch(digest):
        raise UserError(f"{layout}: {digest!r} is not a sha256 digest; copy the layout anew")
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _load(layout: Path, descriptor: Descriptor) -> Any:
    return json.loads(check(layout, descriptor).read_bytes())


def _images(layout: Path, index: Json) -> Iterator[Descriptor]:
    """Yield the image manifests of an index and of the indexes in it."""
    for descriptor in map(oci.in_oci, index["manifests"]):
        if descriptor["mediaType"] == oci.INDEX:
            yield from _images(layout, _load(layout, descriptor))
        elif descriptor["mediaType"] == oci.MANIFEST:
            yield descriptor
