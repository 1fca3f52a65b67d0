"""Output that nobody hears: a build outlives it; a command whose work it was says so."""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import Any, TextIO

# The reader has gone; the disk, the quota or the file is full; the device or its server fails.
DEAF = frozenset({errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class _Unheard(io.FileIO):
    """A descriptor that swallows what cannot be written.

    Attributes:
        lost: why the last words did not arrive.
    """

    lost: OSError | None = None

    def write(self, content: Any) -> int:
        """Write, or pretend to."""
        try:
            return super().write(content)
        except OSError as error:
            if error.errno not in DEAF:
                raise
            self.lost = error
            return len(content)


def outlive_output() -> None:
    """Go on without stdout: `doit ... | head` or a full disk below a log stops no training."""
    if sys.stderr is None:  # closed by whoever started us
        sys.stderr = _nowhere()
    if sys.stdout is None:
        sys.stdout = _nowhere()
        return
    sys.stdout.flush()
    raw = _Unheard(sys.stdout.fileno(), "w", closefd=False)
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=sys.stdout.encoding,
        errors="backslashreplace",
        line_buffering=raw.isatty(),
    )


def _nowhere() -> TextIO:
    return Path(os.devnull).open("w", encoding="utf-8")


def lost() -> OSError | None:
    """Return why words did not arrive, if they did not."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.lost if isinstance(raw, _Unheard) else None
