"""Sources in folders: what is taken, what is refused, and that nothing is written to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.core.sections import Base
from tasks.core.sources import source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    for name in ("config.json", "sub/a", ".git/HEAD", ".cache/x", "sub/__pycache__/y", ".DS_Store"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
    return made


def names(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in source.files(folder)]


def test_what_downloads_leave_is_no_file_of_the_model(folder: Path) -> None:
    assert names(folder) == ["config.json", "sub/a"]


def test_files_are_linked_and_the_originals_untouched(folder: Path, tmp_path: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    into = tmp_path / "into"
    into.mkdir()
    assert source.link(folder, into) == 2
    assert (into / "sub/a").readlink() == folder / "sub/a"
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_link_to_a_file_is_followed_to_its_end(folder: Path, tmp_path: Path) -> None:
    """The Hub's cache is such a folder: links into a folder of blobs."""
    (tmp_path / "blob").write_text("weights")
    (folder / "model.bin").symlink_to("../blob")
    into = tmp_path / "into"
    into.mkdir()
    source.link(folder, into)
    assert (into / "model.bin").readlink() == tmp_path / "blob"


@pytest.mark.parametrize("kind", ["dead link", "link to a folder", "pipe", "our name", "bytes"])
def test_what_cannot_be_taken_is_refused_not_left_out(folder: Path, kind: str) -> None:
    odd = folder / "odd"
    if kind == "dead link":
        odd.symlink_to("nowhere")
    elif kind == "link to a folder":
        odd.symlink_to("sub")
    elif kind == "pipe":
        os.mkfifo(odd)
    elif kind == "our name":
        odd = folder / "manifest.json"
        odd.touch()
    else:
        Path(os.fsdecode(bytes(folder) + b"/odd\xff")).touch()
    with pytest.raises(UserError, match=r"odd|manifest\.json"):
        source.files(folder)


@pytest.mark.parametrize("name", ["a\\b", "manifest.json", "dead"])
def test_what_would_be_refused_can_be_left_out(folder: Path, name: str) -> None:
    (folder / name).symlink_to("nowhere" if name == "dead" else "config.json")
    wanted = Base(path=str(folder), ignore=(name,))
    assert source.files(folder, wanted) == [folder / "config.json", folder / "sub/a"]
    with pytest.raises(UserError):
        source.files(folder)


def test_a_folder_that_cannot_be_read_is_no_empty_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        source.files(folder)


def test_a_fingerprint_is_of_names_and_contents_not_of_places(
    folder: Path, tmp_path: Path, project: object
) -> None:
    first = source.fingerprint(folder)
    moved = folder.rename(tmp_path / "moved")
    assert source.fingerprint(moved) == first
    (moved / "sub/a").rename(moved / "sub/b")
    renamed = source.fingerprint(moved)
    (moved / "sub/b").write_text("other")
    assert len({first, renamed, source.fingerprint(moved)}) == 3
