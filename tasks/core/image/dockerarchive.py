"""Images as `docker save` writes and `docker load` reads them: manifest.json, config and layers.

The layers are read in place, at their offsets; nothing is unpacked.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..engine import digests, manifest
from ..errors import UserError
from . import layers, oci

_PACKED = {b"\x1f\x8b": "+gzip", b"\x28\xb5\x2f\xfd": "+zstd"}
_BLOCK = 1 << 20


def read(path: Path) -> oci.Image:
    """Return the archive's image.

    Raises:
        UserError: the file is missing, is no such archive, or holds several images.
    """
    with _open(path) as archive:
        try:
            (found,) = json.loads(_content(archive, "manifest.json"))
            raw = _content(archive, found["Config"])
            config = json.loads(raw)
            diff_ids = config["rootfs"]["diff_ids"]
            pairs = zip(found["Layers"], diff_ids, strict=True)
            stack = [_layer(path, _member(archive, name), diff_id) for name, diff_id in pairs]
            names = found.get("RepoTags") or [""]
        except (KeyError, ValueError, TypeError, AttributeError, tarfile.TarError):
            raise UserError(
                f"{path}: not an archive of one image; make it with `docker save -o {path} IMAGE`"
            ) from None
    annotations = {"org.opencontainers.image.ref.name": names[0]}
    descriptor = {"digest": digests.of_bytes(raw), "annotations": annotations}
    return oci.parse(descriptor, {"layers": stack}, config)


def pieces(path: Path, layer: oci.Descriptor, start: int = 0) -> Iterator[bytes]:
    """Yield a layer's bytes from an offset on.

    Raises:
        UserError: the archive does not have it.
    """
    with _open(path) as archive:
        (found,) = json.loads(_content(archive, "manifest.json"))
        config = json.loads(_content(archive, found["Config"]))
        for name, diff_id in zip(found["Layers"], config["rootfs"]["diff_ids"], strict=True):
            member = _member(archive, name)
            if _layer(path, member, diff_id)["digest"] == layer["digest"]:
                yield from _region(path, member.offset_data + start, member.size - start)
                return
    raise UserError(f"{path}: changed while it was read; run again when it is at rest")


def stream(
    image: oci.Image, name: str, content: Callable[[oci.Descriptor], Iterator[bytes | memoryview]]
) -> Iterator[bytes | memoryview]:
    """Yield an image as an archive for `docker load`; engines unpack packed layers themselves.

    Args:
        name: what the engine is to call it.
        content: gives the bytes of a layer.
    """
    config = manifest.canonical(image.config)
    names = [f"{number}/layer.tar" for number in range(len(image.layers))]
    told = {"Config": f"{digests.of_bytes(config)[7:]}.json", "RepoTags": [name], "Layers": names}
    for path, text in (("manifest.json", manifest.canonical([told])), (told["Config"], config)):
        yield layers.header(str(path), len(text)) + text + bytes(-len(text) % layers.BLOCK)
    for path, layer in zip(names, image.layers, strict=True):
        yield layers.header(path, layer["size"])
        yield from content(layer)
        yield bytes(-layer["size"] % layers.BLOCK)
    yield bytes(2 * layers.BLOCK)


def _open(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path, "r:")
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; make it with `docker save -o {path} IMAGE`"
        ) from None
    except (tarfile.TarError, OSError):
        raise UserError(
            f"{path}: not a tar; make it with `docker save -o {path} IMAGE`, not compressed"
        ) from None


def _member(archive: tarfile.TarFile, name: str) -> tarfile.TarInfo:
    """Return a file of the archive; older engines link equal layers."""
    member = archive.getmember(name)
    while member.issym() or member.islnk():
        member = archive._find_link_target(member)  # type: ignore[attr-defined]
    return member


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(_member(archive, name))
    if file is None:
        raise KeyError(name)
    return file.read()


def _layer(path: Path, member: tarfile.TarInfo, diff_id: Any) -> oci.Descriptor:
    with path.open("rb") as file:
        file.seek(member.offset_data)
        head = file.read(4)
    packed = next((kind for magic, kind in _PACKED.items() if head.startswith(magic)), "")
    if not packed:
        return {"mediaType": oci.LAYER, "digest": diff_id, "size": member.size}
    region = _region(path, member.offset_data, member.size)
    return oci.describe(region, f"{oci.LAYER}{packed}")


def _region(path: Path, offset: int, size: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while size > 0 and (piece := file.read(min(size, _BLOCK))):
            yield piece
            size -= len(piece)
