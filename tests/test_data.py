"""data: a local dataset is linked; an empty or missing one is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks import data
from tasks.core.engine import stage
from tests.conftest import Project


@pytest.fixture
def folder(project: Project) -> Path:
    made = project.recipes / "m" / "data"
    made.mkdir(parents=True)
    return made


def act(project: Project, text: str = "base: {path: b}\ndata: {path: data}\n") -> str:
    """Run the stage as doit does; return what it says when it fails."""
    failed = stage.act("data", data, project.recipe("m", text))
    return "" if failed is None else str(failed.get_msg()).strip()


def test_every_file_is_linked(project: Project, folder: Path) -> None:
    (folder / "a.jsonl").write_text("{}\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "b.jsonl").write_text("{}\n")
    assert act(project) == ""
    place = project.build / "m/data"
    receipt = json.loads((place / "manifest.json").read_text())
    assert [file["path"] for file in receipt["files"]] == ["a.jsonl", "sub/b.jsonl"]
    assert (place / "sub/b.jsonl").readlink() == folder / "sub/b.jsonl"


def test_an_empty_folder_is_refused(project: Project, folder: Path) -> None:
    assert "data.path" in act(project)
    assert not (project.build / "m/data").exists()


def test_a_missing_folder_is_refused_with_its_key_path(project: Project) -> None:
    said = act(project)
    assert said.startswith(f"{project.recipes}/m.yaml: data.path: no folder ")


def test_a_recipe_without_data_asks_for_none(project: Project) -> None:
    assert not data.wanted(project.recipe("m", "base: {path: b}\n"))


def test_a_changed_row_makes_the_dataset_stale(project: Project, folder: Path) -> None:
    (folder / "a.jsonl").write_text("{}\n")
    recipe = project.recipe("m", "base: {path: b}\ndata: {path: data}\n")
    act(project)
    assert stage.is_fresh("data", data, recipe)
    (folder / "a.jsonl").write_text('{"a": 1}\n')
    assert not stage.is_fresh("data", data, recipe)
