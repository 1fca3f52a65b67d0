"""`doit compare`, on real builds of a small recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Project, doit

TINY = Path("recipes/tiny-agent/base").absolute()


@pytest.fixture(scope="module")
def twice(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project in which m was built as a:1 and then as a:2."""
    place = tmp_path_factory.mktemp("compare")
    project = Project(place / "recipes", place / "build")
    project.recipes.mkdir()
    for tag in ("1", "2"):
        text = f'base: {{path: {TINY}}}\nimage: {{base: scratch, repository: a, tag: "{tag}"}}\n'
        project.recipe("m", text)
        done = doit("m", "archive:m", build=project.build, recipes=project.recipes)
        assert done.returncode == 0, done.stderr
    return project


def compared(project: Project, *words: str) -> dict[str, tuple[object, object]]:
    done = doit("compare", "--json", *words, build=project.build)
    assert done.returncode in (0, 1), done.stderr
    return {row["name"]: (row["a"], row["b"]) for row in json.loads(done.stdout)}


def key_of(project: Project, stage: str, at: int) -> str:
    """Return the key of a stage's result; the newest is the first."""
    done = doit("compare", "--json", "m", build=project.build)
    assert done.returncode == 0, done.stderr
    keys = [row["key"] for row in json.loads(done.stdout) if row["stage"] == stage]
    return str(keys[at]).removeprefix("sha256:")


def test_two_builds_differ_in_what_the_recipe_says_and_what_came_of_it(twice: Project) -> None:
    found = compared(twice, "m", key_of(twice, "dockerfile", 1)[:12])

    assert found["image.tag"] == ("1", "2")
    assert found["dockerfile: reference"] == ("a:1", "a:2")
    assert not [name for name in found if name.startswith(("base", "archive"))]


def test_a_build_is_told_by_any_of_its_results(twice: Project) -> None:
    old, new = (key_of(twice, "dockerfile", at) for at in (1, 0))

    assert compared(twice, "m", old, new)["image.tag"] == ("1", "2")
    assert compared(twice, "m", new, "now") == {}


def test_keys_are_completed_with_what_they_are_of(twice: Project) -> None:
    done = doit("completion", "--line", "doit compare m ", build=twice.build)

    found = dict(line.split("\t") for line in done.stdout.splitlines())
    assert "now" in found
    assert found[key_of(twice, "dockerfile", 1)[:12]].startswith("dockerfile: reference a:1")


def test_no_difference_is_status_0(twice: Project) -> None:
    assert doit("compare", "m", "now", "now", build=twice.build).returncode == 0
    assert doit("compare", "m", key_of(twice, "dockerfile", 1), build=twice.build).returncode == 1


def test_two_models_are_compared_as_they_are_now(twice: Project) -> None:
    twice.recipe(
        "n", (twice.recipes / "m.yaml").read_text().replace("repository: a", "repository: b")
    )
    doit("n", build=twice.build, recipes=twice.recipes)

    found = compared(twice, "m", "n")
    assert found["image.repository"] == ("a", "b")
    assert found["only built here"] == ("archive", None)


def test_a_model_that_was_never_built_is_said(twice: Project) -> None:
    twice.recipe("unbuilt", (twice.recipes / "m.yaml").read_text())
    done = doit("compare", "m", "unbuilt", build=twice.build, recipes=twice.recipes)

    assert done.returncode == 3
    assert "unbuilt: nothing was built; `doit unbuilt` does" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["m", "ffffffffffff0"], "no kept result has a key with fff"),
        (["m", "gone"], "no kept result has a key with gone"),
        (["other"], "no result is kept"),
        (["other", "now"], "nothing was built"),
        ([], "give a model"),
    ],
)
def test_what_cannot_be_compared_is_said(twice: Project, words: list[str], said: str) -> None:
    done = doit("compare", *words, build=twice.build)

    assert done.returncode == 3
    assert said in done.stderr
    assert "Traceback" not in done.stderr
