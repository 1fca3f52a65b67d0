"""A file behind a URL, known by its digest: taken as it is, or unpacked where it is an archive."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import unquote, urlsplit

from ..errors import UserError
from ..sections import Base, Source
from . import downloads, fetched, transfer
from . import source as sources
from .transfer import Remote

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
# What macOS adds to the zips that it makes.
FINDER = "__MACOSX/"
Open = Callable[[], IO[bytes]]


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
    try:
        with _members(archive, label) as members:
            files = _below_top(members.files) if isinstance(source, Base) else members.files
            for name in (*members.files, *files):
                sources.check_name(name, label)
            for name in sources.selected(source, sorted(files)):
                place = folder / name
                place.parent.mkdir(parents=True, exist_ok=True)
                with files[name]() as content, place.open("wb") as file:
                    while block := content.read(1 << 20):
                        file.write(block)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{label}: no archive that can be read ({error})") from None


def _below_top(files: Mapping[str, Open]) -> dict[str, Open]:
    """Return a model's files by their names below the one folder that all are in, if there is one.

    Our own archives have it, named after the model.
    """
    found = {name: read for name, read in files.items() if not name.startswith(FINDER)}
    top, _, _ = next(iter(found), "").partition("/")
    if not all(name.startswith(f"{top}/") for name in found):
        return found
    return {name.removeprefix(f"{top}/"): read for name, read in found.items()}


class _members:  # noqa: N801  # used as a function
    """The plain files of an archive, by name."""

    def __init__(self, archive: Path, label: str) -> None:
        self.archive: tarfile.TarFile | zipfile.ZipFile
        if zipfile.is_zipfile(archive):
            self.archive = zipfile.ZipFile(archive)
            self.files = dict(self._zipped(self.archive, label))
        else:
            self.archive = tarfile.open(archive)  # noqa: SIM115  # closed at exit
            self.files = dict(self._tarred(self.archive, label))

    def __enter__(self) -> _members:
        return self

    def __exit__(self, *_: object) -> None:
        self.archive.close()

    @staticmethod
    def _zipped(archive: zipfile.ZipFile, label: str) -> Iterator[tuple[str, Open]]:
        for info in archive.infolist():
            if stat.S_ISLNK(info.external_attr >> 16):
                raise UserError(f"{label}: {info.filename!r} is a link; leave links out of it")
            if not info.is_dir():
                yield info.filename, lambda info=info: archive.open(info)  # type: ignore[misc]

    @staticmethod
    def _tarred(archive: tarfile.TarFile, label: str) -> Iterator[tuple[str, Open]]:
        for info in archive.getmembers():
            if not info.isfile() and not info.isdir():
                raise UserError(f"{label}: {info.name!r} is a link or device; leave it out")
            if info.isfile():
                name = info.name.removeprefix("./")
                yield name, lambda info=info: archive.extractfile(info)  # type: ignore[misc]
