"""Recipes that were read before: taken again, and never when anything else would be read now."""

from __future__ import annotations

import ast
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core import readbefore, recipe
from tasks.core.errors import LoadError
from tests.conftest import Project

TEXT = "base: {path: a}\n"


@pytest.fixture
def reads(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Read two recipes, and note the names of all that are read from now on."""
    code = tuple(tmp_path / path.name for path in readbefore.CODE)
    for path in code:
        path.write_text("")
    (tmp_path / "libraries").mkdir()
    monkeypatch.setattr(readbefore, "LIBRARIES", tmp_path / "libraries")
    monkeypatch.setattr(readbefore, "PLACE", tmp_path / "recipes.pickle")
    monkeypatch.setattr(readbefore, "CODE", code)
    monkeypatch.setattr(readbefore, "OWN", readbefore.code())
    for name in "mn":
        (project.recipes / f"{name}.yaml").write_text(TEXT)
    recipe.load()
    names: list[str] = []
    read = recipe._read

    def noted(path: Path, text: str, reserved: frozenset[str]) -> recipe.Recipe:
        names.append(path.stem)
        return read(path, text, reserved)

    monkeypatch.setattr(recipe, "_read", noted)
    return names


def test_what_nobody_touched_is_not_read_again_and_is_the_same(reads: list[str]) -> None:
    before = recipe.load()
    assert reads == []
    assert before == [recipe.read(found.file) for found in before]
    assert [found.model_fields_set for found in before] == [{"name", "file", "base"}] * 2


def test_the_words_of_a_file_s_own_checkpoint_are_kept(project: Project, reads: list[str]) -> None:
    """They are no field, so equal recipes may differ in them."""
    text = "base: {path: a}\ntrain: {prompt_template: default, max_iters: 3}\ncheckpoint: 3\n"
    (project.recipes / "m.yaml").write_text(text)
    assert [recipe.load()[0].names_iterations for _ in range(2)] == [True, True]
    assert reads == ["m"]


def same_size_and_time(path: Path) -> None:
    state = path.stat()
    path.write_text(TEXT.replace("path: a", "path: b"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size


@pytest.mark.parametrize(
    ("change", "read"),
    [
        (lambda p, _: (p.recipes / "m.yaml").write_text(TEXT + "# a comment\n"), ["m"]),
        (lambda p, _: same_size_and_time(p.recipes / "m.yaml"), ["m"]),
        (lambda p, _: (p.recipes / "m.yaml").rename(p.recipes / "o.yaml"), ["o"]),
        (lambda p, _: (p.recipes / "o.yaml").write_text(TEXT), ["o"]),
        (lambda p, _: (p.recipes / "m.yaml").unlink(), []),
        (lambda p, _: (p.recipes / "m.yaml").touch(), []),
        (lambda _, own: (own / "sections.py").write_text("new"), ["m", "n"]),
        (lambda _, own: (own / "libraries/pydantic").mkdir(), ["m", "n"]),
        (lambda _, own: (own / "recipes.pickle").write_bytes(b""), ["m", "n"]),
        (lambda _, own: (own / "recipes.pickle").open("a").write("."), ["m", "n"]),
        (lambda _, own: os.truncate(own / "recipes.pickle", 200), ["m", "n"]),
        (lambda _, own: (own / "recipes.pickle").unlink(), ["m", "n"]),
    ],
    ids=[
        "edited", "edited in the same tick", "renamed", "added", "taken away", "touched",
        "our code", "a library", "emptied", "longer", "cut off", "lost",
    ],
)  # fmt: skip
def test_what_would_be_read_otherwise_is_read_anew(
    project: Project,
    reads: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Project, Path], object],
    read: list[str],
) -> None:
    change(project, tmp_path)
    monkeypatch.setattr(readbefore, "OWN", readbefore.code())
    found = recipe.load()
    assert reads == read
    assert found == [recipe.read(each.file) for each in found]
    reads.clear()
    assert recipe.load() == found
    assert reads == []


def test_what_older_code_reads_is_not_kept_under_the_name_of_newer(
    project: Project, reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a `git pull` while doit starts."""
    (project.recipes / "m.yaml").write_text(TEXT + "# edited\n")
    (tmp_path / "sections.py").write_text("new")
    recipe.load()
    monkeypatch.setattr(readbefore, "OWN", readbefore.code())
    recipe.load()
    assert reads == ["m", "n"] * 2


def test_a_date_in_one_recipe_keeps_all(project: Project, reads: list[str]) -> None:
    app = "app: {fastgpt: {maxContext: 10, defaultConfig: {d: 2020-01-01}}}\n"
    (project.recipes / "m.yaml").write_text(TEXT + app)
    assert recipe.load() == recipe.load()
    assert reads == ["m"]


def test_a_word_that_became_a_stage_s_is_refused_now(reads: list[str]) -> None:
    with pytest.raises(LoadError, match="'m' is the name of a stage"):
        recipe.load(frozenset("m"))


def test_a_fault_is_told_each_time_and_spoils_no_other_recipe(
    project: Project, reads: list[str]
) -> None:
    (project.recipes / "m.yaml").write_text("base: {}\n")
    for _ in range(2):
        with pytest.raises(LoadError):
            recipe.load()
    assert reads == ["m", "m"]


def test_without_an_environment_of_ours_nothing_is_kept(
    reads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readbefore, "PLACE", tmp_path / "none/recipes.pickle")
    assert len(recipe.load()) == 2
    assert not (tmp_path / "none").exists()


class Opens:
    """Runs a command where it is unpickled by Python's own means."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


def test_what_is_kept_can_run_nothing(project: Project, reads: list[str], tmp_path: Path) -> None:
    content = pickle.dumps(Opens(f"touch {tmp_path}/ran"))
    readbefore.PLACE.write_bytes(readbefore._stamp(content, readbefore.code()) + b"\n" + content)
    assert len(recipe.load()) == 2
    assert reads == ["m", "n"]
    assert not (tmp_path / "ran").exists()


def test_no_other_code_of_ours_makes_a_recipe() -> None:
    """Of these, `paths` and `settings` only say where recipes are, the rest says what is wrong."""
    others = {"errors", "paths", "readbefore", "settings", "textfile"}
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in readbefore.CODE]
    found = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in found if node.level]
    names = {name for node in ours for name in ([node.module] if node.module else _names(node))}
    assert names == {path.stem for path in readbefore.CODE if path.stem != "recipe"} | others


def _names(node: ast.ImportFrom) -> list[str]:
    return [alias.name for alias in node.names]
