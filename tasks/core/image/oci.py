"""Images in OCI's words, and Docker's put into them (image-spec: manifest.md, config.md)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError

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
DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
PLATFORM = {"os": "linux", "architecture": "amd64"}


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


def parse(descriptor: Descriptor, manifest: Any, config: Any) -> Image:
    """Return the image that a manifest and its config describe, in OCI's words.

    Raises:
        UserError: it is no image that can be taken over.
    """
    try:
        image = Image(descriptor, config, tuple(map(layer, manifest["layers"])))
        digests = [*image.diff_ids, *(layer["digest"] for layer in image.layers)]
        sound = len(image.diff_ids) == len(image.layers) and all(map(DIGEST.fullmatch, digests))
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
        return pick(Path("image.base"), {one["digest"]: one for one in index["manifests"]})
    except (LookupError, TypeError, AttributeError):
        raise UserError("image.base: not a sound index; take another base") from None


def as_oci(media_type: str) -> str:
    """Return OCI's name for a media type of Docker's."""
    return _DOCKER.get(media_type, media_type)


def pick(layout: Path, images: dict[str, Descriptor]) -> Descriptor:
    """Return the only image, or the only one for our platform.

    Raises:
        UserError: it has none, or several.
    """
    found = list(images.values())
    if len(found) > 1:
        found = [one for one in found if PLATFORM.items() <= one.get("platform", {}).items()]
    if len(found) != 1:
        raise UserError(
            f"{layout}: holds {len(images)} images, {len(found)} of them for linux/amd64; "
            "it should be one: copy that one into a folder of its own"
        )
    return found[0]


def layer(descriptor: Descriptor) -> Descriptor:
    """Return a layer's descriptor in OCI's words, without what else it tells.

    Raises:
        UserError: it is of a kind that cannot be taken over.
    """
    found = in_oci(descriptor)
    if found["mediaType"] not in _LAYERS:
        raise UserError(
            f"{found['mediaType']}: not a layer's media type that can be taken over; "
            "take a base whose layers are tar, tar+gzip or tar+zstd"
        )
    return {name: found[name] for name in ("mediaType", "digest", "size")}


def in_oci(descriptor: Descriptor) -> Descriptor:
    """Return a descriptor with OCI's name for its media type."""
    return {**descriptor, "mediaType": as_oci(descriptor["mediaType"])}
