"""How files go into a bucket: in which parts, and which of them are there already."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..engine import digests

MIB = 1 << 20
# Fewer parts are less work for a server: Swift takes a GiB in 32 MiB with a tenth less than in 16.
PART = 32 * MIB
# Swift's large objects have this many parts at most, unless its operator changed that.
PARTS = 1000


@dataclass(frozen=True)
class Local:
    """A file to send: what it will be called, where it is, what it is."""

    name: str
    path: Path
    size: int
    digest: str


@dataclass
class Plan:
    """How one file is sent.

    Attributes:
        upload: the id of a multipart upload; empty for a file that goes in one piece.
        etags: the parts that are there already, by number.
        etag: the whole object's, once it is there.
    """

    file: Local
    state: digests.State
    part: int
    upload: str = ""
    etags: dict[int, str] = field(default_factory=dict)
    etag: str = ""

    @property
    def count(self) -> int:
        """How many parts there are."""
        return max(1, -(-self.file.size // self.part))

    @property
    def missing(self) -> list[int]:
        return [number for number in range(1, self.count + 1) if number not in self.etags]

    def length(self, number: int) -> int:
        return min(self.part, self.file.size - (number - 1) * self.part)


def part_size(size: int) -> int:
    """Return the size of a file's parts: large enough for few requests, whole MiB."""
    return max(PART, -(-size // PARTS // MIB) * MIB + (MIB if size > PART * PARTS else 0))


class Parts:
    """Which parts were sent, so that an interrupted upload goes on; one line each, appended."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.uploads: dict[tuple[str, str, int], str] = {}
        self.parts: dict[str, dict[int, str]] = {}
        self.lock = threading.Lock()
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # cut off by a kill
            if "part" in entry:
                self.parts.setdefault(entry["upload"], {})[entry["part"]] = entry["etag"]
            else:
                # Parts that an older version cut to another size are not mixed with ours.
                key = entry["object"], entry["digest"], entry.get("part_size", 0)
                self.uploads[key] = entry["upload"]

    def note(self, **entry: Any) -> None:
        with self.lock, self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
