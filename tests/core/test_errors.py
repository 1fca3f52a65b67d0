"""What is said of an error of the system: which file, and what to do."""

from __future__ import annotations

import errno
from pathlib import Path

from tasks.core.errors import refused


def test_a_full_disk_is_that_of_the_copy_not_of_what_is_copied() -> None:
    """As shutil.copyfile raises it."""
    error = OSError(errno.ENOSPC, "No space left on device", "/usb/a", None, "/build/m/a")
    assert refused(error, Path("build")).startswith("/build/m/a: the disk is full; ")
