"""What a zip or a tar holds: names, what can be taken of them, and their content in blocks."""

from __future__ import annotations

import errno
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from ..errors import UserError

# How a zip begins.  What it ends with proves nothing: the last file of a tar may be a zip.
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
ENCRYPTED = 1
BLOCK = 1 << 20


class Zip:
    """The files of a zip, by name."""

    def __init__(self, file: IO[bytes], label: str) -> None:
        self.label, self.archive = label, zipfile.ZipFile(file)
        self.found = {info.filename: info for info in self.archive.infolist() if not info.is_dir()}

    def check(self, name: str) -> None:
        """Refuse what is no plain file, or has a password."""
        info = self.found[name]
        if stat.S_ISLNK(info.external_attr >> 16):
            raise UserError(f"{self.label}: {name!r} is a link; leave it out with `ignore:`")
        if info.flag_bits & ENCRYPTED:
            raise UserError(f"{self.label}: {name!r} is encrypted; make it anew without a password")

    def open(self, name: str) -> IO[bytes]:
        return self.archive.open(self.found[name])


class Tar:
    """The files of a tar, compressed or not, by name."""

    def __init__(self, file: IO[bytes], label: str) -> None:
        self.label = label
        self.archive = tarfile.open(fileobj=file)  # noqa: SIM115  # `opened` closes the file
        members = self.archive.getmembers()
        self._check_end(members[-1].name if members else "")
        self.found = {info.name.removeprefix("./"): info for info in members if not info.isdir()}

    def _check_end(self, last: str) -> None:
        """Refuse a damaged header: tarfile takes one, but for the first, for the tar's end."""
        content, end = self.archive.fileobj, self.archive.offset
        assert content
        content.seek(end)
        if any(content.read(2 * tarfile.BLOCKSIZE)):
            raise UserError(
                f"{self.label}: damaged at byte {end} of the tar, behind {last!r}; take another "
                "copy of the archive, and its digest"
            )
        while content.read(BLOCK):  # at their end gzip and its like compare their sums
            pass

    def check(self, name: str) -> None:
        """Refuse what is no plain file."""
        if not self.found[name].isfile():
            raise UserError(
                f"{self.label}: {name!r} is a link or device; leave it out with `ignore:`"
            )

    def open(self, name: str) -> IO[bytes]:
        content = self.archive.extractfile(self.found[name])
        assert content
        return content


@contextmanager
def opened(path: Path, label: str) -> Iterator[Zip | Tar]:
    """Open an archive as what it begins as.

    Raises:
        UserError: it is no archive, or a damaged one.
    """
    with path.open("rb") as file:
        kind = Zip if file.read(4) in ZIP else Tar
        file.seek(0)
        with _explained(label):
            found = kind(file, label)
        yield found


def blocks(archive: Zip | Tar, name: str) -> Iterator[bytes]:
    """Yield the content of a file in an archive.

    Raises:
        UserError: it is damaged, or packed in a way that is not known here.
    """
    with _explained(archive.label, name), archive.open(name) as content:
        while block := content.read(BLOCK):
            yield block


@contextmanager
def _explained(label: str, name: str = "") -> Iterator[None]:
    """Turn what comes of bytes that are not as they should be into one clear message."""
    where = f"{label}: {name!r}" if name else label
    try:
        yield
    except UserError:
        raise
    except NotImplementedError as error:
        raise UserError(
            f"{where}: packed in a way that Python cannot read ({error}); make the archive with "
            "deflate, or as a tar"
        ) from None
    # What zipfile, tarfile and the decompressors raise is listed nowhere.
    except Exception as error:
        if getattr(error, "errno", None) not in (None, errno.EINVAL):
            raise  # the system cannot read the file; of a place before its start it says EINVAL
        said = (str(error) or type(error).__name__).partition("\n")[0].rstrip(":")
        if name:
            raise UserError(
                f"{where} is damaged ({said}); take another copy of the archive, and its digest"
            ) from None
        raise UserError(f"{label}: no archive that can be read ({said})") from None
