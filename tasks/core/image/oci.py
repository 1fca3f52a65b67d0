"""Read, write and check an OCI image layout (image-spec: image-layout.md, manifest.md, config.md).

A layout that others made is not trusted: no digest becomes a path before it has a digest's form,
and no blob is taken over before size and digest are right.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..engine import digests
from ..engine.manifest import canonical
from ..errors import UserError
from ..model import modelfiles

Json = dict[str, Any]
# {"mediaType": ..., "digest": "sha256:...", "size": ...}
Descriptor = dict[str, Any]

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"

# Docker's types are OCI's by other names; runtimes refuse an image that mixes the two.
_DOCKER = {
    "application/vnd.docker.distribution.manifest.list.v2+json": INDEX,
    "application/vnd.docker.distribution.manifest.v2+json": MANIFEST,
    "application/vnd.docker.container.image.v1+json": CONFIG,
    "application/vnd.docker.image.rootfs.diff.tar": LAYER,
    "application/vnd.docker.image.rootfs.diff.tar.gzip": f"{LAYER}+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd": f"{LAYER}+zstd",
}
_LAYERS = (LAYER, f"{LAYER}+gzip", f"{LAYER}+zstd")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PLATFORM = {"os": "linux", "architecture": "amd64"}


@dataclass(frozen=True)
class Image:
    """An image of a layout.

    Attributes:
        descriptor: the image manifest's, with the annotations that the index gives it.
        config: the image's config.
        layers: the layers' descriptors with OCI media types, the lowest first.
    """

    descriptor: Descriptor
    config: Json
    layers: tuple[Descriptor, ...]

    @property
    def diff_ids(self) -> list[str]:
        """The digests of the uncompressed layers."""
        return list(self.config["rootfs"]["diff_ids"])


def describe(pieces: Iterable[bytes | memoryview], media_type: str) -> Descriptor:
    """Return the descriptor of a blob that is not kept."""
    sha, size = hashlib.sha256(), 0
    for piece in pieces:
        sha.update(piece)
        size += len(piece)
    return {"mediaType": media_type, "digest": f"sha256:{sha.hexdigest()}", "size": size}


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
        "mediaType": MANIFEST,
        "config": write_blob(layout, [canonical(config)], CONFIG),
        "layers": list(layers),
    }
    descriptor = write_blob(layout, [canonical(manifest)], MANIFEST)
    platform = {name: config[name] for name in _PLATFORM}
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [{**descriptor, "platform": platform}],
    }
    (layout / "index.json").write_bytes(canonical(index))
    (layout / "oci-layout").write_bytes(canonical({"imageLayoutVersion": "1.0.0"}))
    return descriptor


def parse(descriptor: Descriptor, manifest: Any, config: Any) -> Image:
    """Return the image that a manifest and its config describe, in OCI's words.

    Raises:
        UserError: it is no image that can be taken over.
    """
    try:
        image = Image(descriptor, config, tuple(map(_layer, manifest["layers"])))
        digests = [*image.diff_ids, *(layer["digest"] for layer in image.layers)]
        sound = len(image.diff_ids) == len(image.layers) and all(map(_DIGEST.fullmatch, digests))
    except (LookupError, TypeError, AttributeError):
        sound = False
    if not sound:
        raise UserError(f"{descriptor['digest']}: not a sound image; take another as base")
    return image


def choose(index: Any) -> Descriptor:
    """Return the image for our platform of an index that no layout holds.

    Raises:
        UserError: it has none, or several.
    """
    try:
        return _choose(Path("image.base"), {one["digest"]: one for one in index["manifests"]})
    except (LookupError, TypeError, AttributeError):
        raise UserError("image.base: not a sound index; take another base") from None


def as_oci(media_type: str) -> str:
    """Return OCI's name for a media type of Docker's."""
    return _DOCKER.get(media_type, media_type)


def read(layout: Path) -> Image:
    """Return a layout's image for linux/amd64, or its only one.

    Raises:
        UserError: there is no layout, or not exactly one such image; or its JSON is damaged.
    """
    try:
        index = json.loads((layout / "index.json").read_bytes())
        descriptor = _choose(layout, {found["digest"]: found for found in _images(layout, index)})
        manifest = _load(layout, descriptor)
        config = _load(layout, manifest["config"])
        image = Image(descriptor, config, tuple(map(_layer, manifest["layers"])))
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
        if layer["mediaType"] == LAYER and layer["digest"] != diff_id:
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
    if not _DIGEST.fullmatch(digest):
        raise UserError(f"{layout}: {digest!r} is not a sha256 digest; copy the layout anew")
    return layout / "blobs" / "sha256" / digest.removeprefix("sha256:")


def _load(layout: Path, descriptor: Descriptor) -> Any:
    return json.loads(check(layout, descriptor).read_bytes())


def _images(layout: Path, index: Json) -> Iterator[Descriptor]:
    """Yield the image manifests of an index and of the indexes in it."""
    for descriptor in map(_as_oci, index["manifests"]):
        if descriptor["mediaType"] == INDEX:
            yield from _images(layout, _load(layout, descriptor))
        elif descriptor["mediaType"] == MANIFEST:
            yield descriptor


def _choose(layout: Path, images: dict[str, Descriptor]) -> Descriptor:
    """Return the only image, or the only one for our platform."""
    found = list(images.values())
    if len(found) > 1:
        found = [one for one in found if _PLATFORM.items() <= one.get("platform", {}).items()]
    if len(found) != 1:
        raise UserError(
            f"{layout}: holds {len(images)} images, {len(found)} of them for linux/amd64; "
            "it should be one: copy that one into a folder of its own"
        )
    return found[0]


def _layer(descriptor: Descriptor) -> Descriptor:
    layer = _as_oci(descriptor)
    if layer["mediaType"] not in _LAYERS:
        raise UserError(
            f"{layer['mediaType']}: not a layer's media type that can be taken over; "
            "take a base whose layers are tar, tar+gzip or tar+zstd"
        )
    return {name: layer[name] for name in ("mediaType", "digest", "size")}


def _as_oci(descriptor: Descriptor) -> Descriptor:
    return {**descriptor, "mediaType": as_oci(descriptor["mediaType"])}
