"""Layers: tar streams as tar programs read them."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.image import layers

GIB = 1 << 30
BLOCK = 512


@pytest.mark.parametrize("size", [0, 1, 511, 8 * GIB - 1, 8 * GIB, 8 * GIB + 1, 1 << 44])
def test_a_size_is_read_back(size: int) -> None:
    header = layers.header("data/model.safetensors", size)
    assert len(header) == BLOCK
    info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    assert (info.name, info.size, info.type) == ("data/model.safetensors", size, tarfile.REGTYPE)


@pytest.mark.parametrize("size", [3, 8 * GIB, 20 * GIB])
def test_a_header_is_what_the_standard_library_writes(size: int) -> None:
    info = tarfile.TarInfo("data/model.safetensors")
    info.size, info.mode = size, 0o644
    ours = layers.header(info.name, size)
    assert ours == info.tobuf(tarfile.GNU_FORMAT, "utf-8", "strict")


def test_a_name_of_100_bytes_needs_no_entry_of_its_own() -> None:
    assert len(layers.header("x" * 100, 0)) == BLOCK
    assert len(layers.header("x" * 101, 0)) == 3 * BLOCK


@pytest.mark.parametrize("length", [1, 94, 95, 96, 97, 250, 506, 507, 508, 1200])
@pytest.mark.parametrize("letter", ["a", "é", "模"])
def test_a_long_name_is_read_back(tmp_path: Path, letter: str, length: int) -> None:
    # Parts of at most 240 bytes, as file systems want them.
    text = letter * (length // len(letter.encode()) or 1)
    name = "/".join(text[at : at + 80] for at in range(0, len(text), 80))
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"content")
    content = b"".join(map(bytes, layers.read(layers.parts(tmp_path, {name: 7}, [name]))))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        (member,) = archive.getmembers()
        found = archive.extractfile(member)
        assert found is not None
        assert found.read() == b"content"
    assert member.name == f"data/{name}"


def test_a_long_folder_stays_a_folder() -> None:
    name = "data/" + "x" * 150 + "/"
    stream = io.BytesIO(layers.header(name, 0) + bytes(2 * BLOCK))
    with tarfile.open(fileobj=stream) as archive:
        (member,) = archive.getmembers()
    assert member.isdir()
    assert (member.mode, f"{member.name}/") == (0o755, name)


def test_a_layer_has_no_padding_but_its_two_last_blocks(tmp_path: Path) -> None:
    for name, size in {"a": 0, "b": 512, "c": 513}.items():
        (tmp_path / name).write_bytes(b"x" * size)
    stream = layers.read(
        layers.parts(tmp_path, {"a": 0, "b": 512, "c": 513}, ["a", "b", "c"], ["data/"])
    )
    content = b"".join(map(bytes, stream))
    assert len(content) == BLOCK * (1 + 1 + 2 + 3 + 2)
    assert content.endswith(bytes(2 * BLOCK))


def test_all_folders_above_are_named_once_and_in_order() -> None:
    found = layers.folders(["config.json", "b/c/x", "b/y", "a/z"])
    assert found == ["data/", "data/a/", "data/b/", "data/b/c/"]


@pytest.mark.needs("tar")
def test_gnu_tar_reads_a_layer(tmp_path: Path) -> None:
    names = ["sub/config.json", "n" * 120]
    (tmp_path / "sub").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(b"12345")
    sizes = dict.fromkeys(names, 5)
    parts = layers.parts(tmp_path, sizes, names, layers.folders(names))
    content = b"".join(map(bytes, layers.read(parts)))
    command = ["tar", "--utc", "--numeric-owner", "-tvf", "-"]
    listed = subprocess.run(command, input=content, capture_output=True, check=True)
    assert not listed.stderr
    assert [line.split() for line in listed.stdout.decode().splitlines()] == [
        ["drwxr-xr-x", "0/0", "0", "1970-01-01", "00:00", "data/"],
        ["drwxr-xr-x", "0/0", "0", "1970-01-01", "00:00", "data/sub/"],
        ["-rw-r--r--", "0/0", "5", "1970-01-01", "00:00", "data/sub/config.json"],
        ["-rw-r--r--", "0/0", "5", "1970-01-01", "00:00", f"data/{'n' * 120}"],
    ]


SIZES = st.dictionaries(st.text("abc/", min_size=1, max_size=5), st.integers(0, 50), max_size=30)


@given(SIZES, st.integers(2, 12))
def test_every_file_is_in_one_layer_and_layers_are_not_too_many(
    sizes: dict[str, int], most: int
) -> None:
    plan = layers.plan(sizes, most, big=10)
    assert sorted(path for paths in plan for path in paths) == sorted(sizes)
    assert len(plan) <= most
    assert all(sizes[path] < 10 for path in plan[0])
    assert all(paths == sorted(paths) and paths for paths in plan[1:])


def test_a_big_file_is_a_layer_of_its_own() -> None:
    sizes = {"config.json": 1, "b": 64 << 20, "a": 65 << 20, "small": (64 << 20) - 1}
    assert layers.plan(sizes, 100) == [["config.json", "small"], ["a"], ["b"]]


def test_where_layers_run_out_the_smallest_big_files_share() -> None:
    sizes = {"a": 90, "b": 30, "c": 20, "d": 80}
    assert layers.plan(sizes, 4, big=10) == [[], ["a"], ["b", "c"], ["d"]]
