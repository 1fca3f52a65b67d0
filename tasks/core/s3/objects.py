"""What the last upload left in which bucket of which server: `objects.json` of the stage upload."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import settings

if TYPE_CHECKING:
    from .buckets import Listed
    from .plan import Local

NAME = "objects.json"
Told = dict[str, Any]


def write(
    folder: Path, bucket: str, files: Mapping[str, Local], there: Mapping[str, Listed]
) -> None:
    """Note the objects with the ETags that the server lists."""
    objects = {
        name: {"size": file.size, "digest": file.digest, "etag": there[name].etag}
        for name, file in files.items()
    }
    content = {"endpoint": endpoint(), "bucket": bucket, "objects": objects}
    (folder / NAME).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read(folder: Path) -> Told:
    """Return what was noted, or nothing."""
    path = folder / NAME
    found: Told = json.loads(path.read_bytes()) if path.exists() else {}
    return found


def unchanged(told: Told, there: Mapping[str, Listed]) -> list[str]:
    """Return the objects that the server still lists as they were sent."""
    return [
        name
        for name, entry in told["objects"].items()
        if name in there and (there[name].size, there[name].etag) == (entry["size"], entry["etag"])
    ]


def elsewhere(told: Told) -> str:
    """Return the server that objects were sent to, where that is not the one of the settings."""
    was = str(told.get("endpoint", ""))
    return "" if was == endpoint() else was


def endpoint() -> str:
    """Return the server of the settings."""
    return settings.current().s3_endpoint.rstrip("/")
