"""What recipes name and is not there is told before anything runs."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tasks import STAGES
from tasks.core import paths, settings
from tasks.core.commands import missing
from tasks.core.recipe import Recipe
from tests.conftest import Project, doit

RECIPE = """
base: {path: base}
data: {path: dta, format: openai}
train: {prompt_template: default, max_iters: 1, template: mine.py.j2}
evaluate: {prompts: promts.jsonl}
"""


@pytest.fixture
def recipe(project: Project) -> Recipe:
    """A recipe with a base, and with two names that are misspelt."""
    shutil.copytree(paths.ROOT / "recipes/tiny-agent/base", project.recipes / "m/base")
    (project.recipes / "m/data").mkdir()
    (project.recipes / "m/prompts.jsonl").touch()
    return project.recipe("m", RECIPE)


def faults(recipe: Recipe, *names: str) -> list[str]:
    return missing.faults((name, STAGES[name], recipe) for name in names)


def test_all_that_is_missing_is_told_in_one_go(project: Project, recipe: Recipe) -> None:
    own, guess = project.recipes / "m", "perhaps you meant 'prompts.jsonl'?"
    cure = "; correct the path there, or put the file here"
    assert faults(recipe, "base", "data", "config", "train", "evaluate") == [
        f"{recipe.file}: data.path: no folder {own}/dta, perhaps you meant 'data'?",
        f"{own}/mine.py.j2: no such file; {recipe.file} names it{cure}",
        f"{own}/promts.jsonl: no such file; {recipe.file} names it, {guess}",
    ]


def test_what_a_stage_before_will_make_is_not_missed(recipe: Recipe) -> None:
    assert faults(recipe, "base", "merge", "card", "report") == []


def test_nothing_runs_where_something_is_missing(project: Project, recipe: Recipe) -> None:
    done = doit("data:m", "base:m", build=project.build, recipes=project.recipes)
    assert done.returncode == 3
    assert "no folder" in done.stderr
    assert not (project.build / "m").exists()


def test_prompts_that_nobody_can_be_asked_are_told_before_anything_runs(
    project: Project, recipe: Recipe
) -> None:
    (project.recipes / "m/promts.jsonl").write_text(PROMPT + "{\n")
    for stage in ("evaluate", "select"):
        [fault] = faults(recipe, "base", stage)
        assert fault.startswith(f"{project.recipes}/m/promts.jsonl:2: no prompt (")


def test_people_may_go_on_without_it(project: Project, recipe: Recipe) -> None:
    done = doit("-c", "data:m", "base:m", build=project.build, recipes=project.recipes)
    assert done.returncode == 1
    assert "ERROR: data:m: " in done.stderr
    assert paths.manifest("m", "base").exists()


def test_every_task_that_is_named_runs(project: Project, recipe: Recipe) -> None:
    """To read the words of a command line twice loses all but the first."""
    project.recipe("m", "base: {path: base}\n")
    done = doit("base:m", "report:m", build=project.build, recipes=project.recipes)
    assert done.returncode == 0, done.stderr
    assert paths.manifest("m", "report").exists()


PROMPT = '{"messages": [{"role": "user", "content": "Hi"}]}\n'
OUTWARD = """
base: {path: base}
image: {base: scratch, repository: a/b}
upload: {bucket: llms}
serve: {}
gateway: {}
app: {fastgpt: {}}
evaluate: {prompts: prompts.jsonl, served: {tuned: m}}
"""


@pytest.mark.parametrize(
    ("stage", "setting"),
    [("push", "REGISTRY"), ("upload", "S3_ENDPOINT"), ("gateway", "GATEWAY_ENDPOINT")],
)
def test_a_stage_that_cannot_do_without_a_setting_misses_it_before_anything_runs(
    project: Project, recipe: Recipe, stage: str, setting: str
) -> None:
    project.recipe("m", OUTWARD)
    done = doit(f"{stage}:m", build=project.build, recipes=project.recipes)
    assert done.returncode == 3
    assert f"{stage}: MODELWRIGHT_{setting} is not set; give it as docs/settings.md" in done.stderr
    assert not (project.build / "m").exists()


@pytest.mark.parametrize(
    ("stage", "setting", "value", "said"),
    [
        ("push", "REGISTRY", "http://registry.local", "should be host[:port][/prefix]"),
        ("push", "REGISTRY", "registry.local:99999", "with a port of 1 to 65535"),
        ("upload", "S3_ENDPOINT", "s3.local:9000", "should be the address of an S3 server"),
        ("serve", "XINFERENCE_ENDPOINT", "xinference:9997", "no address of a server"),
        ("gateway", "GATEWAY_ENDPOINT", "gateway:3001", "no address of a server"),
        ("gateway", "GATEWAY_UPSTREAM", "model:9997", "no address of a server"),
        ("app", "FASTGPT_ENDPOINT", "fastgpt:3000", "no address of a server"),
        ("evaluate", "EVALUATE_ENDPOINT", "model:8000/v1", "no address of a server"),
    ],
)
def test_a_setting_that_is_no_address_is_told_before_anything_runs(
    project: Project,
    recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    setting: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setenv("MODELWRIGHT_GATEWAY_ENDPOINT", "http://gateway:3001")
    monkeypatch.setenv(f"MODELWRIGHT_{setting}", value)
    settings.current.cache_clear()
    (project.recipes / "m/prompts.jsonl").write_text(PROMPT)
    [fault] = faults(project.recipe("m", OUTWARD), stage)
    assert fault.startswith(f"MODELWRIGHT_{setting}: ")
    assert said in fault


def test_what_does_without_a_setting_or_asks_for_none_misses_none(
    project: Project, recipe: Recipe
) -> None:
    recipe = project.recipe("m", OUTWARD)
    assert faults(recipe, "base", "image", "serve", "app") == []


def test_a_folder_is_no_file_and_a_guess_is_not_what_was_written(
    project: Project, recipe: Recipe
) -> None:
    own = project.recipes / "m"
    (own / "promts.jsonl").mkdir()
    (own / "mine.py.j2").symlink_to("gone")
    (own / "dta").touch()
    (own / "data").rmdir()
    told = faults(recipe, "data", "config", "evaluate")
    assert [each.partition("; ")[0] for each in told] == [
        f"{recipe.file}: data.path: no folder {own}/dta, but a file",
        f"{own}/mine.py.j2: no such file, but a link that leads nowhere",
        f"{own}/promts.jsonl: no such file, but a folder",
    ]


def test_a_folder_that_is_locked_is_told_not_a_traceback(
    project: Project, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may enter any folder, so the system's answer is made here."""
    locked, stat = project.recipes / "m", os.stat

    def refuse(path: str | Path, **options: bool) -> os.stat_result:
        if Path(path).parent == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    assert faults(recipe, "data", "evaluate") == [
        f"{locked}/dta: permission denied; make it readable for you",
        f"{locked}/promts.jsonl: permission denied; make it readable for you",
    ]
