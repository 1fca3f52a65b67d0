"""recipes/<model>.lock."""

from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.core.sources import lockfile
from tests.conftest import Project

TEXT = "base: {path: x}\n"


def test_what_is_settled_is_read_back_and_other_parts_stay(project: Project) -> None:
    recipe = project.recipe("m", TEXT)
    assert lockfile.read(recipe, "image") == {}
    lockfile.update(recipe, "base", revision="abc")
    lockfile.update(recipe, "image", base="a.example/x:v1@sha256:0")
    lockfile.update(recipe, "base", files="sha256:1")
    assert lockfile.read(recipe, "base") == {"revision": "abc", "files": "sha256:1"}
    assert lockfile.read(recipe, "image") == {"base": "a.example/x:v1@sha256:0"}


def test_the_file_lies_beside_the_recipe_and_says_what_it_is(project: Project) -> None:
    recipe = project.recipe("m", TEXT)
    lockfile.update(recipe, "base", revision="abc")
    text = (project.recipes / "m.lock").read_text()
    assert text.startswith("# What the names in m.yaml stand for")
    assert [path.name for path in project.recipes.iterdir() if path.name.startswith(".")] == []


def test_threads_that_settle_parts_at_once_lose_none(project: Project) -> None:
    recipe = project.recipe("m", TEXT)
    parts = [f"part{number}" for number in range(8)]

    def settle(part: str) -> None:
        for number in range(5):
            lockfile.update(recipe, part, **{f"key{number}": "x"})

    with ThreadPoolExecutor(len(parts)) as pool:
        list(pool.map(settle, parts))
    assert [len(lockfile.read(recipe, part)) for part in parts] == [5] * len(parts)


def test_recipes_that_may_not_be_written_are_an_error_that_says_so(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = project.recipe("m", TEXT)

    def refuse(place: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(place))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(
        UserError, match=r"m\.lock: new lines of `base` cannot be written \(Read-on"
    ):
        lockfile.update(recipe, "base", revision="abc")


@pytest.mark.parametrize("text", ["- a\n", "base: x\n", "a: {b: \n"])
def test_a_damaged_file_is_named(project: Project, text: str) -> None:
    recipe = project.recipe("m", TEXT)
    (project.recipes / "m.lock").write_text(text)
    with pytest.raises(UserError, match=r"m\.lock"):
        lockfile.read(recipe, "base")
