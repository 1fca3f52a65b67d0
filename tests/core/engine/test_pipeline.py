"""Stages x recipes: the tasks that doit sees."""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from tasks import ON_REQUEST, STAGES
from tasks.core import settings
from tasks.core.engine import pipeline
from tasks.core.errors import LoadError
from tasks.core.recipe import Recipe
from tests.conftest import Project

BASE = "base: {path: base}\n"


def test_each_stage_is_followed_by_its_models(project: Project) -> None:
    recipes = [project.recipe(name, BASE) for name in ("a", "b")]
    found = [(task["basename"], task["name"]) for task in pipeline.tasks(STAGES, recipes)]
    assert found[:3] == [("base", None), ("base", "a"), ("base", "b")]
    assert [name for name, model in found if model is None] == list(STAGES)


def test_a_part_that_is_absent_asks_for_no_task(project: Project) -> None:
    found = list(pipeline.tasks(STAGES, [project.recipe("a", BASE)]))
    assert not [task for task in found if task["basename"] == "train" and task["name"]]


def test_a_task_s_targets_are_its_manifest_and_files_below_it(project: Project) -> None:
    for task in pipeline.tasks(STAGES, [project.recipe("a", BASE)]):
        if task["name"]:
            place = project.build / "a" / task["basename"]
            assert task["targets"][0] == str(place / "manifest.json")
            assert all(target.startswith(f"{place}/") for target in task["targets"])


def test_a_model_s_task_is_its_stages_but_those_on_request(project: Project) -> None:
    recipe = project.recipe("a", f"{BASE}image: {{base: scratch, repository: a/b}}\n")
    (task,) = pipeline.models(STAGES, ON_REQUEST, [recipe])
    assert task["basename"] == "a"
    assert {"base:a", "dockerfile:a", "image:a"} <= set(task["task_dep"])
    assert not {f"{name}:a" for name in ON_REQUEST} & set(task["task_dep"])


@pytest.mark.parametrize("has_folder", [False, True])
def test_a_model_s_task_names_its_base_by_a_plain_path(project: Project, has_folder: bool) -> None:
    recipe = project.recipe("a", "base: {path: ../b/base}\n")
    if has_folder:
        (project.recipes / "a").mkdir(exist_ok=True)
    (task,) = pipeline.models(STAGES, ON_REQUEST, [recipe])
    assert task["doc"] == f"Build a from {project.recipes / 'b/base'}."


def test_an_update_that_the_system_refuses_is_told_in_words(project: Project) -> None:
    def update(recipe: Recipe) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/x")

    moving: Any = SimpleNamespace(update=update, wanted=lambda recipe: True)
    *_, task = pipeline.updates({"base": moving}, [project.recipe("a", BASE)])
    function, arguments = task["actions"][0]
    failed = function(*arguments)
    assert failed.get_msg().strip() == "/x: permission denied; make it readable for you"


def test_stages_and_commands_are_reserved() -> None:
    assert {"base", "merge", "list", "clean", "plan", "toolchain"} <= pipeline.reserved(STAGES)


def test_plain_doit_builds_the_first_model_where_the_default_is_not_there(
    project: Project,
) -> None:
    recipe = project.recipe("mine", "base: {path: base}\n")

    assert pipeline.default([recipe]) == ["mine"]


def test_a_default_that_was_asked_for_and_is_not_there_is_an_error(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWRIGHT_DEFAULT", "mein")
    settings.current.cache_clear()

    with pytest.raises(LoadError, match="MODELWRIGHT_DEFAULT: no recipe 'mein', perhaps you meant"):
        pipeline.default([project.recipe("mine", "base: {path: base}\n")])
