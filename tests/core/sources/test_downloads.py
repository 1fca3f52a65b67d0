"""Downloads are kept for as long as a stage links to them."""

from __future__ import annotations

import time

from tasks.core.sources import downloads
from tests.conftest import Project


def test_gc_drops_only_what_is_old_and_linked_by_nothing(project: Project) -> None:
    kept, dropped = (downloads.place(f"sha256:{letter * 64}") for letter in "ab")
    kept.parent.mkdir(parents=True)
    for path in (kept, dropped):
        path.write_bytes(b"weights")
    stage = project.build / "m" / "base"
    stage.mkdir(parents=True)
    (stage / "model.safetensors").symlink_to(kept)

    at_once = downloads.collect()
    later = downloads.collect(time.time() + 2 * 86400)

    assert (at_once, later) == (0, 7)
    assert kept.exists()
    assert not dropped.exists()
