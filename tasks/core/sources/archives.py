"""A file behind a URL, known by its digest: taken as it is, or unpacked where it is an archive."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from ..errors import UserError
from ..sections import Base, Source
from . import downloads, fetched, packed, transfer
from . import source as sources
from .transfer import Remote

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# What macOS adds to the zips that it makes.
FINDER = "__MACOSX/"


def fetch(source: Source, folder: Path) -> None:
    """Fill a folder with what a URL holds.

    Raises:
        UserError: the server does not have it or sends other bytes; a name in the archive leads
            out of the folder; it is no archive after all.
    """
    url, digest = str(source.http), str(source.digest)
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    sources.check_name(name, url)
    # Of two builds that take files from one archive, the first would drop it under the other.
    with fetched.alone(fetched.place(f"archive:{digest[7:19]}")):
        _download(url, name, digest, folder)
        if name.endswith(SUFFIXES):
            (folder / name).unlink()
            unpack(fetched.place(digest), source, folder)
            # What is unpacked would lie here twice.
            fetched.place(digest).unlink()


def _download(url: str, name: str, digest: str, folder: Path) -> None:
    parts, here = urlsplit(url), fetched.place(digest)
    with transfer.explained(name, f"{parts.scheme}://{parts.netloc}", "the URL's own key"):
        size = here.stat().st_size if here.exists() else length(url)
        downloads.fetch([Remote(name, size, digest, url)], folder, {})


def length(url: str) -> int:
    """Return the size of what is behind a URL; some servers only tell it with the content."""
    from huggingface_hub.utils._http import hf_raise_for_status, http_stream_backoff

    headers = {"Accept-Encoding": "identity"}
    with http_stream_backoff("GET", url, headers=headers, timeout=60) as response:
        hf_raise_for_status(response)
        told = response.headers.get("Content-Length")
    if told is None:
        raise UserError(f"{url.partition('?')[0]}: the server does not tell its size")
    return int(told)


def unpack(archive: Path, source: Source, folder: Path) -> None:
    """Unpack the files that the source's patterns let through; links and devices never.

    Raises:
        UserError: a name leads out of the folder, or the file is no archive.
    """
    label = source.label.partition("?")[0]
    with packed.opened(archive, label) as opened:
        names = (_below_top if isinstance(source, Base) else _as_they_are)(opened.found)
        # In the archive's order: to go back in a compressed tar is to read it from its start.
        chosen = sources.selected(source, names)
        _check(chosen, label)
        for name in chosen:
            opened.check(names[name])
        for name in chosen:
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                file.writelines(packed.blocks(opened, names[name]))


def _as_they_are(names: Iterable[str]) -> dict[str, str]:
    return {name: name for name in names}


def _below_top(names: Iterable[str]) -> dict[str, str]:
    """Return a model's files: by their names below the one folder that all are in, if there is one.

    Our own archives have it, named after the model.
    """
    found = [name for name in names if not name.startswith(FINDER)]
    top, _, _ = next(iter(found), "").partition("/")
    # What leads out of a folder keeps what shows it.
    if top in ("", "..") or not all(name.startswith(f"{top}/") for name in found):
        return _as_they_are(found)
    return {name.removeprefix(f"{top}/"): name for name in found}


def _check(names: Sequence[str], label: str) -> None:
    """Refuse names that lead out of the folder, or that cannot all be written."""
    folders = {parent for name in names for parent in PurePosixPath(name).parents}
    for name in names:
        sources.check_name(name, label)
        if PurePosixPath(name) in folders:
            raise UserError(
                f"{label}: {name!r} is a file and a folder at once; leave one out with `ignore:`"
            )
