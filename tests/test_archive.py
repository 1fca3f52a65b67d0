"""merged.zip."""

from __future__ import annotations

import errno
import gc
import os
import stat
import struct
import subprocess
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import archive
from tasks.core.engine import digests
from tasks.core.errors import UserError
from tasks.core.model import ahead, crc32, hashedfile, modelfiles
from tasks.core.recipe import Recipe
from tests.conftest import Project

FILES = {
    "config.json": b"{}",
    "model.safetensors": os.urandom(2_500_000),
    "sub/模型.txt": b"text",
    ".git/HEAD": b"ref",
    "iter_10.pth": b"checkpoint",
}


@pytest.fixture
def recipe(project: Project) -> Recipe:
    project.result("m", "base", FILES)
    return project.recipe("m", "base: {path: x}\n")


def packed(recipe: Recipe, folder: Path) -> Path:
    folder.mkdir()
    archive.run(recipe, folder)
    return folder / "merged.zip"


def test_what_goes_out_is_in_the_archive(recipe: Recipe, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed(recipe, tmp_path / "out")) as made:
        assert made.testzip() is None
        found = {name: made.read(name) for name in made.namelist()}
    names = ["config.json", "model.safetensors", "sub/模型.txt"]
    assert found == {f"m/{name}": FILES[name] for name in names}
    assert list(found) == sorted(found)


def test_entries_are_stored_and_tell_nothing_of_this_machine(
    recipe: Recipe, tmp_path: Path
) -> None:
    with zipfile.ZipFile(packed(recipe, tmp_path / "out")) as made:
        for info in made.infolist():
            assert info.compress_type == zipfile.ZIP_STORED
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.external_attr >> 16 == stat.S_IFREG | 0o644
            assert (info.create_system, info.extra) == (3, b"")


def test_two_builds_are_the_same_bytes(recipe: Recipe, project: Project, tmp_path: Path) -> None:
    first = packed(recipe, tmp_path / "1").read_bytes()
    for path in (project.build / "m/base").rglob("*.json"):
        os.utime(path, (0, 0))
        path.chmod(0o600)
    assert packed(recipe, tmp_path / "2").read_bytes() == first


def test_a_file_above_4_gib_gets_zip64_fields_beforehand() -> None:
    header = archive.entry("big", 5 << 30, 7).FileHeader()
    assert header[14:18] == (7).to_bytes(4, "little")
    # 20 bytes of ZIP64 sizes stand between the name and the content.
    assert header[30:] == b"big\x01\x00\x10\x00" + (5 << 30).to_bytes(8, "little") * 2


def streamed(archive: Path) -> Iterator[tuple[str, int]]:
    """Read an archive from a pipe, by its local headers alone; yield each entry's name and size."""
    with subprocess.Popen(["cat", archive], stdout=subprocess.PIPE) as cat:
        assert cat.stdout
        while (start := cat.stdout.read(4)) == b"PK\3\4":
            header = struct.unpack("<5H3L2H", cat.stdout.read(26))
            flags, crc, packed_size, size, name_length, extra_length = (header[1], *header[5:])
            assert (flags & 8, header[2], packed_size) == (0, zipfile.ZIP_STORED, size)
            name, _ = cat.stdout.read(name_length), cat.stdout.read(extra_length)
            assert zlib.crc32(cat.stdout.read(size)) == crc
            yield name.decode(), size
        assert start == b"PK\1\2"
        cat.stdout.read()


def test_an_archive_can_be_read_from_a_pipe(recipe: Recipe, tmp_path: Path) -> None:
    made = packed(recipe, tmp_path / "out")
    names = ["config.json", "model.safetensors", "sub/模型.txt"]
    assert list(streamed(made)) == [(f"m/{name}", len(FILES[name])) for name in names]
    with zipfile.ZipFile(made) as listed:
        assert not any(info.flag_bits & 8 for info in listed.infolist())


@pytest.mark.needs("busybox")
def test_busybox_reads_the_archive_from_a_pipe(recipe: Recipe, tmp_path: Path) -> None:
    made = packed(recipe, tmp_path / "out")
    with made.open("rb") as content:
        subprocess.run(["busybox", "unzip", "-q", "-"], cwd=tmp_path, stdin=content, check=True)
    assert (tmp_path / "m/model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_any_recipe_can_be_packed(recipe: Recipe) -> None:
    assert archive.wanted(recipe)


def test_the_name_of_the_model_is_part_of_the_key(recipe: Recipe) -> None:
    assert archive.key(recipe) == {"model": "m", "left_out": list(modelfiles.LEFT_OUT)}


@pytest.mark.needs("unzip")
def test_unzip_reads_the_archive(recipe: Recipe, tmp_path: Path) -> None:
    made = packed(recipe, tmp_path / "out")
    subprocess.run(["unzip", "-tq", made], check=True)


def test_the_digest_is_known_once_it_is_written(recipe: Recipe, tmp_path: Path) -> None:
    made = packed(recipe, tmp_path / "out")
    assert digests.known(made) == digests.of_bytes(made.read_bytes())


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_failure_is_told_once(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hashedfile, "_put", full)
    with pytest.raises(OSError, match="No space"):
        packed(recipe, tmp_path / "out")
    gc.collect()


def test_a_file_that_changes_meanwhile_is_told(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(path: Path, start: int, room: memoryview) -> int:
        return len(room) - 1

    monkeypatch.setattr(ahead, "read", cut)
    with pytest.raises(UserError, match=r"config\.json: changed"):
        packed(recipe, tmp_path / "out")


def test_a_file_that_changes_after_it_was_summed_is_told(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model").mkdir()
    file = tmp_path / "model/weights"
    file.write_bytes(b"as it was summed")

    def late(*_: object) -> int:
        file.write_bytes(b"as it was packed")
        return 0

    monkeypatch.setattr(crc32, "joined", late)
    with pytest.raises(UserError, match="weights: changed"):
        archive.pack(tmp_path / "model", tmp_path / "x.zip", "m")


@pytest.mark.slow
@pytest.mark.needs("unzip")
def test_an_entry_above_4_gib_is_read_by_unzip_and_python(tmp_path: Path, project: Project) -> None:
    model, size = tmp_path / "model", (4 << 30) + 7
    model.mkdir()
    with (model / "big.safetensors").open("wb") as file:
        file.truncate(size)
    (model / "z.txt").write_text("after it")
    archive.pack(model, tmp_path / "x.zip", "m")
    with zipfile.ZipFile(tmp_path / "x.zip") as made:
        info = made.getinfo("m/big.safetensors")
        assert info.file_size == size
        assert made.read("m/z.txt") == b"after it"
    header = archive.entry(info.filename, size, info.CRC).FileHeader()
    with (tmp_path / "x.zip").open("rb") as file:
        assert file.read(len(header)) == header
    subprocess.run(["unzip", "-tq", tmp_path / "x.zip"], check=True)
