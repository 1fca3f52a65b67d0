"""The layers of an image: tar streams that follow from paths, sizes and contents alone.

Format: GNU tar, as every container runtime reads it; sizes from 8 GiB on in base 256 and names of
more than 100 bytes in an entry of their own.  All else is fixed, so equal files are equal bytes:
owner 0:0 without names, mode 0644 or 0755, time 0, two zero blocks at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from ..model import modelfiles

# The model's folder in the image, as the document's Dockerfile has it.
ROOT = "data"
# From this size on a file is a layer of its own: a new config.json does not move the weights.
BIG = 64 << 20
BLOCK = 512

# Some bytes, or a file with its size.
Part = bytes | tuple[Path, int]


def plan(sizes: Mapping[str, int], most: int, big: int = BIG) -> list[list[str]]:
    """Return the paths of each layer: the small files first, then the big ones.

    Args:
        sizes: the files by path.
        most: how many layers there may be, at least 2.
        big: the size from which a file is a layer of its own while layers last; then the smallest
            of the big ones share.
    """
    small = sorted(path for path, size in sizes.items() if size < big)
    large = sorted(sizes.keys() - set(small), key=lambda path: (-sizes[path], path))
    bins: list[list[str]] = [[] for _ in range(min(most - 1, len(large)))]
    loads = [0] * len(bins)
    for path in large:
        emptiest = loads.index(min(loads))
        bins[emptiest].append(path)
        loads[emptiest] += sizes[path]
    return [small, *sorted(sorted(paths) for paths in bins)]


def folders(paths: Iterable[str], root: str = ROOT) -> list[str]:
    """Return the folders above some paths, the root first."""
    above = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    return [f"{root}/", *sorted(f"{root}/{parent}/" for parent in above if parent != ".")]


def parts(
    folder: Path,
    sizes: Mapping[str, int],
    paths: Iterable[str],
    above: Iterable[str] = (),
    root: str = ROOT,
) -> list[Part]:
    """Return a layer as a list of what it is put together from.

    Args:
        folder: the model's folder.
        sizes: its files by path.
        paths: the files of this layer.
        above: names of folders that the layer makes first.
        root: the folder in the image.
    """
    found: list[Part] = [header(name, 0) for name in above]
    for path in paths:
        found.append(header(f"{root}/{path}", sizes[path]))
        found.append((folder / path, sizes[path]))
        found.append(bytes(-sizes[path] % BLOCK))
    return [*found, bytes(2 * BLOCK)]


def length(layer: Iterable[Part]) -> int:
    """Return the bytes of a layer; no file is read for it."""
    return sum(len(part) if isinstance(part, bytes) else part[1] for part in layer)


def read(layer: Iterable[Part], start: int = 0) -> Iterator[bytes | memoryview]:
    """Yield a layer's bytes from an offset on; each file is read once, 1 MiB at a time."""
    for part in layer:
        size = len(part) if isinstance(part, bytes) else part[1]
        if 0 < start >= size:
            start -= size
        elif isinstance(part, bytes):
            yield part[start:]
            start = 0
        else:
            yield from modelfiles.pieces(*part, start)
            start = 0


def header(name: str, size: int) -> bytes:
    """Return what precedes an entry's content; a name that ends with `/` is a folder."""
    encoded = name.encode()
    kind, mode = (b"5", 0o755) if name.endswith("/") else (b"0", 0o644)
    if len(encoded) <= 100:
        return _block(encoded, size, kind, mode)
    text = encoded + b"\0"
    padded = text + bytes(-len(text) % BLOCK)
    link = _block(b"././@LongLink", len(text), b"L", 0o644)
    return link + padded + _block(encoded[:100], size, kind, mode)


def _block(name: bytes, size: int, kind: bytes, mode: int) -> bytes:
    """Return one header block of POSIX.1-1988 with GNU's magic."""
    owner = b"0000000\0" * 2
    before = name.ljust(100, b"\0") + b"%07o\0" % mode + owner + _number(size) + b"%011o\0" % 0
    after = kind + bytes(100) + b"ustar  \0"
    checksum = sum(before) + sum(b" " * 8) + sum(after)
    return (before + b"%06o\0 " % checksum + after).ljust(BLOCK, b"\0")


def _number(size: int) -> bytes:
    return b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
