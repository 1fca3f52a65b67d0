"""An image that holds this machine's own Python and one program, to stand in for a server."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

PYTHON = Path("/usr/bin/python3.11")
LEFT_OUT = ("test", "idlelib", "tkinter", "ensurepip", "config-", "__pycache__", "lib2to3")


def rootfs(program: Path, names: tuple[str, ...]) -> bytes:
    """Return a tar of a root folder in which a program can be run.

    Args:
        names: what the program is called in /usr/bin.
    """
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for path in (PYTHON, *_libraries(PYTHON)):
            archive.add(path.resolve(), str(path))
        archive.add("/usr/lib/python3.11", filter=_wanted)
        link = tarfile.TarInfo("usr/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, PYTHON.name
        archive.addfile(link)
        content = b"#!/usr/bin/python3\n" + program.read_bytes()
        for name in names:
            info = tarfile.TarInfo(f"usr/bin/{name}")
            info.size, info.mode = len(content), 0o755
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def _libraries(program: Path) -> list[Path]:
    told = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=True).stdout
    words = [word for line in told.splitlines() for word in line.split() if word.startswith("/")]
    return [Path(word) for word in words]


def _wanted(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = info.name.removeprefix("usr/lib/python3.11/")
    return None if name.startswith(LEFT_OUT) or "__pycache__" in name else info
