"""Which files of a model's folder go out."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.errors import UserError
from tasks.core.model import modelfiles
from tests.conftest import Project


@pytest.mark.parametrize(
    ("path", "stays"),
    [
        ("config.json", False),
        ("model-00001-of-00002.safetensors", False),
        ("pytorch_model.bin", False),
        ("onnx/manifest.json", False),
        ("docs/Dockerfile", False),
        (".github", False),
        ("gitattributes", False),
        ("manifest.json", True),
        (".git/lfs/objects/ab/cd/abcd", True),
        ("vendor/.git", True),
        (".gitattributes", True),
        (".cache/huggingface/download/config.json.metadata", True),
        ("iter_4296.pth", True),
        ("iter_4296.pth/zero_pp_rank_0_mp_rank_00_model_states.pt", True),
        ("original/consolidated.00.pth", True),
        ("train.log", True),
        ("Dockerfile", True),
        (".dockerignore", True),
    ],
)
def test_what_stays_here(path: str, stays: bool) -> None:
    assert modelfiles.is_left_out(path) is stays


def docker_ignores(pattern: str, path: str) -> bool:
    """Match as moby's patternmatcher does: a regular expression on the path and its parents."""
    expression = ""
    for part in re.split(r"(\*\*/|\*)", pattern):
        expression += {"**/": "(.*/)?", "*": "[^/]*"}.get(part, re.escape(part))
    names = path.split("/")
    above = ("/".join(names[:count]) for count in range(1, len(names) + 1))
    return any(re.fullmatch(expression, one, re.DOTALL) for one in above)


NAMES = st.sampled_from(
    [pattern.removeprefix("**/").replace("*", "iter_1") for pattern in modelfiles.LEFT_OUT]
    + ["config.json", "a.pth.json", ".gitx", "x.git", "log", "README.md", ".pth"]
) | st.text("ab.*[]?-_", min_size=1, max_size=6)


@given(st.lists(NAMES, min_size=1, max_size=4).map("/".join))
def test_docker_leaves_out_what_we_leave_out(path: str) -> None:
    ignored = any(docker_ignores(pattern, path) for pattern in modelfiles.LEFT_OUT)
    assert modelfiles.is_left_out(path) is ignored


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_files_are_sorted_by_path(tmp_path: Path) -> None:
    fill(tmp_path, "b", "a/z", "a.json", ".git/HEAD", "manifest.json", "é")
    assert modelfiles.outgoing(tmp_path) == ["a.json", "a/z", "b", "é"]


def test_a_link_to_a_file_counts_as_the_file(tmp_path: Path) -> None:
    fill(tmp_path, "blobs/1")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").symlink_to(tmp_path / "blobs" / "1")
    assert modelfiles.outgoing(tmp_path / "model") == ["config.json"]


def test_what_is_left_out_may_be_odd(tmp_path: Path) -> None:
    fill(tmp_path, "config.json")
    (tmp_path / ".git").symlink_to("nowhere")
    (tmp_path / "a\nb.log").write_text("")
    assert modelfiles.outgoing(tmp_path) == ["config.json"]


@pytest.mark.parametrize("name", ["a\nb", "a\\b", "a\x1b[0m", "a\x85", ".wh.config.json"])
def test_names_that_tools_misread_are_refused(tmp_path: Path, name: str) -> None:
    fill(tmp_path, name)
    with pytest.raises(UserError, match="rename it"):
        modelfiles.outgoing(tmp_path)


def test_a_name_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9")).write_text("")
    with pytest.raises(UserError, match="rename it"):
        modelfiles.outgoing(tmp_path)


def test_a_folder_of_such_a_name_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "a\nb/config.json")
    with pytest.raises(UserError, match="rename it"):
        modelfiles.outgoing(tmp_path)


def test_links_to_folders_and_to_nowhere_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "config.json", "real/x")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(UserError, match="link: a link to a folder"):
        modelfiles.outgoing(tmp_path)
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("gone")
    with pytest.raises(UserError, match="link: a link that leads nowhere"):
        modelfiles.outgoing(tmp_path)


def test_a_pipe_is_refused_and_not_opened(tmp_path: Path) -> None:
    fill(tmp_path, "config.json")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: a device, pipe or socket"):
        modelfiles.outgoing(tmp_path)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    fill(tmp_path, "manifest.json", ".git/HEAD")
    with pytest.raises(UserError, match="holds no file of a model"):
        modelfiles.outgoing(tmp_path)


def test_pieces_are_the_file(tmp_path: Path) -> None:
    content = os.urandom(2_500_000)
    (tmp_path / "x").write_bytes(content)
    assert b"".join(map(bytes, modelfiles.pieces(tmp_path / "x", len(content)))) == content


@pytest.mark.parametrize("size", [2, 4])
def test_a_file_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    with pytest.raises(UserError, match="changed while it was read"):
        list(modelfiles.pieces(tmp_path / "x", size))


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(bytes(3 << 20))
    os.utime(path, ns=(0, 0))
    reading = modelfiles.pieces(path, 3 << 20)
    next(reading)
    with path.open("r+b") as file:
        file.write(b"new")
    with pytest.raises(UserError, match="changed while it was read"):
        list(reading)


def test_a_file_that_no_stage_made_does_not_go_out(project: Project) -> None:
    folder = project.result("m", "merge", {"model.safetensors": b"x"})
    (folder / ".env.notes").write_text("a password")

    with pytest.raises(UserError, match=r"\.env\.notes: no stage made this"):
        modelfiles.outgoing(folder)
