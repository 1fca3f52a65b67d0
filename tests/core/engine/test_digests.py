"""Digests: computed once for each state of a file, never stale."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from tasks.core.engine import digests
from tasks.core.errors import UserError
from tests.conftest import Project


def true(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@pytest.fixture
def file(project: Project, tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the list of files whose bytes were read, which grows."""
    found: list[Path] = []
    real = digests.read

    def noted(path: Path) -> str:
        found.append(path)
        return real(path)

    monkeypatch.setattr(digests, "read", noted)
    return found


@pytest.mark.parametrize("content", [b"", b"x", b"x" * digests.BLOCK, b"x" * (digests.BLOCK + 1)])
def test_a_digest_is_the_sha256_of_the_bytes(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert digests.of_file(file) == digests.of_bytes(content) == true(content)


def test_a_file_at_rest_is_read_once(file: Path, read: list[Path]) -> None:
    assert digests.of_file(file) == digests.of_file(file) == digests.known(file)
    assert read == [file]


def test_a_link_to_a_known_file_is_not_read(file: Path, read: list[Path]) -> None:
    digests.of_file(file)
    link = file.with_name("link")
    link.symlink_to(file)
    assert digests.of_file(link) == true(b"one")
    assert read == [file]


def test_a_remembered_digest_is_not_computed(file: Path, read: list[Path]) -> None:
    digests.remember(file, true(b"one"))
    assert digests.of_file(file) == true(b"one")
    assert read == []


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["write", "replace", "touch", "ask"]), st.binary(min_size=3, max_size=4)
    ),
    max_size=8,
)


@effort(max_examples=30)
@given(CHANGES)
def test_no_row_of_changes_leaves_a_stale_digest(changes: list[tuple[str, bytes]]) -> None:
    path = Path(os.environ["TEST_FILE"])
    path.write_bytes(b"one")
    stat = path.stat()
    for what, content in changes:
        if what == "write":
            path.write_bytes(content)
        elif what == "replace":
            path.with_name("new").write_bytes(content)
            path.with_name("new").replace(path)
        elif what == "touch":
            # The worst case: same size, and a modification time that was set back.
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert digests.of_file(path) == true(path.read_bytes())


@pytest.fixture(autouse=True)
def place(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Say where the property test may write; hypothesis runs it many times in one folder."""
    monkeypatch.setenv("TEST_FILE", str(tmp_path / "changed"))


def test_same_size_and_time_with_other_bytes_is_another_file(file: Path) -> None:
    stat = file.stat()
    digests.of_file(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digests.of_file(file) == true(b"two")


def test_a_write_just_after_reading_is_seen(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one tick of the clock the file's times would be the same before and after."""
    real = digests.read

    def then_written(path: Path) -> str:
        digest = real(path)
        path.write_bytes(b"two")
        return digest

    monkeypatch.setattr(digests, "read", then_written)
    file.write_bytes(b"one")
    with pytest.raises(UserError, match="changed while it was read"):
        digests.of_file(file)
    monkeypatch.undo()
    assert digests.known(file) is None


def test_a_missing_file_has_no_known_digest(project: Project, tmp_path: Path) -> None:
    assert digests.known(tmp_path / "none") is None
    with pytest.raises(FileNotFoundError):
        digests.of_file(tmp_path / "none")


@pytest.mark.parametrize("content", [b"no database at all, but longer than a header" * 99, b""])
def test_a_damaged_database_costs_one_more_reading(
    project: Project, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    (project.build / ".digests").mkdir(parents=True)
    (project.build / ".digests/cache.db").write_bytes(content)
    assert digests.of_file(path) == true(b"one")
    assert digests.of_file(path) == digests.known(path) == true(b"one")


def test_a_build_folder_removed_meanwhile_does_no_harm(file: Path, project: Project) -> None:
    digests.of_file(file)
    (project.build / ".digests/cache.db").unlink()
    file.write_bytes(b"two")
    assert digests.of_file(file) == true(b"two")


def test_a_database_that_cannot_be_written_is_done_without(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> sqlite3.Connection:
        raise sqlite3.OperationalError("attempt to write a readonly database")

    def refuse_os(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(sqlite3, "connect", refuse)
    monkeypatch.setattr(Path, "unlink", refuse_os)
    assert digests.of_file(file) == true(b"one")
    assert digests.known(file) is None
