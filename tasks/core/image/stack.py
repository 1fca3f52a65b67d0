"""The layers of an image and where the bytes of each are: `layers.json` beside an OCI layout.

A layout may lack blobs that others keep (image-spec: image-layout.md).  Ours lacks the layers that
can be made again from the model's files, or fetched from the base's registry.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from .. import paths
from ..engine import digests, manifest
from ..errors import UserError
from . import layers

NAME = "layers.json"


@dataclass(frozen=True)
class Layer:
    """A layer of an image.

    Attributes:
        mediaType, digest, size: its descriptor's.
        origin: where a layer of the base is: an image's name without tag, or the recipe's words.
        stage: the stage whose result holds the files of a layer of ours.
        root: the folder in the image that they go to.
        above: the folders that a layer of ours makes first.
        files: the model's files in a layer of ours.
        content: digest of their names and contents, by which the layer is known again.
    """

    mediaType: str  # noqa: N815  # the spec's spelling
    digest: str
    size: int
    origin: str = ""
    stage: str = ""
    root: str = ""
    above: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    content: str = ""

    @property
    def descriptor(self) -> dict[str, str | int]:
        """The layer as an image manifest has it."""
        return {"mediaType": self.mediaType, "digest": self.digest, "size": self.size}

    @property
    def is_ours(self) -> bool:
        """Whether the layer is made from the model's files."""
        return not self.origin


def content(folder: Path, root: str, above: Iterable[str], files: Iterable[str]) -> str:
    """Return what tells a layer of ours from others before it is made."""
    found = [[path, digests.of_file(folder / path)] for path in files]
    return manifest.digest_of([root, list(above), found])


def parts(layer: Layer, name: str) -> list[layers.Part]:
    """Return what a layer of ours is put together from.

    Args:
        name: the model's.

    Raises:
        UserError: a file is gone, or has another size than when the image was built.
    """
    model = paths.output(name, layer.stage)
    try:
        sizes = {path: (model / path).stat().st_size for path in layer.files}
    except OSError as error:
        raise UserError(f"{error.filename}: is gone; build the image anew") from None
    made = layers.parts(model, sizes, layer.files, layer.above, layer.root)
    if layers.length(made) != layer.size:
        raise UserError(f"{model}: changed since the image was built; run doit again")
    return made


def write(folder: Path, stack: Iterable[Layer]) -> None:
    """Write the list beside a layout."""
    lines = ",\n".join(manifest.canonical(asdict(layer)).decode() for layer in stack)
    (folder / NAME).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


def read(folder: Path) -> list[Layer]:
    """Return the list beside a layout; empty where there is none that can be trusted."""
    receipt = manifest.read(folder / manifest.NAME)
    listed = {file.path: file.digest for file in receipt.files} if receipt else {}
    try:
        text = (folder / NAME).read_bytes()
        if digests.of_bytes(text) != listed.get(NAME):
            return []
        return [
            Layer(**{**raw, "above": tuple(raw["above"]), "files": tuple(raw["files"])})
            for raw in json.loads(text)
        ]
    except (OSError, ValueError, LookupError, TypeError):
        return []
