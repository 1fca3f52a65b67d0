"""What is known about a build: states, reasons, and the runs that made its results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks import STAGES, report
from tasks.core import paths
from tasks.core.engine import inputs, ledger, lock, manifest
from tasks.core.engine.manifest import Manifest
from tasks.core.engine.stage import Stage, is_fresh_through
from tasks.core.recipe import Recipe
from tasks.core.report import state
from tests.conftest import Project

RECIPE = "base: {path: base}\nimage: {base: scratch, repository: a/b, tag: %s}\n"


@pytest.fixture
def model(project: Project) -> Recipe:
    """Return a recipe whose base and Dockerfile are current."""
    (project.recipes / "m" / "base").mkdir(parents=True)
    (project.recipes / "m" / "base" / "config.json").write_text("{}")
    recipe = project.recipe("m", RECIPE % "v1")
    for stage in ("base", "dockerfile"):
        publish(project, recipe, stage)
    return recipe


def publish(project: Project, recipe: Recipe, stage: str) -> Manifest:
    """Publish a made-up result that is what the stage's inputs ask for."""
    folder = project.result(recipe.name, stage, {"file": b"x"})
    found = inputs.gather(STAGES[stage], recipe)
    key = manifest.key_of(stage, found)
    receipt = Manifest(recipe.name, stage, key, found, manifest.describe(folder), {})
    manifest.write(receipt, folder)
    return receipt


def states(recipe: Recipe) -> dict[str, str]:
    return {step.stage: step.state for step in state.steps(report.told_of(recipe), recipe)}


def reasons(recipe: Recipe, stage: str) -> list[str]:
    return [
        r
        for step in state.steps(report.told_of(recipe), recipe)
        if step.stage == stage
        for r in step.reasons
    ]


def test_a_stage_is_current_or_not_built(model: Recipe) -> None:
    assert states(model) == {"base": "current", "dockerfile": "current", "image": "not built"}


def test_a_look_at_a_model_gathers_the_inputs_of_a_stage_once(
    model: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    report.write(model)
    gather, gathered = inputs.gather, []

    def counted(stage: Stage, *rest: Any) -> dict[str, Any]:
        gathered.append(stage)
        return gather(stage, *rest)

    monkeypatch.setattr(inputs, "gather", counted)
    assert is_fresh_through(STAGES, "base", model)
    assert is_fresh_through(STAGES, "dockerfile", model)
    assert not report.drifted(model)
    assert gathered == [STAGES["base"], STAGES["dockerfile"]]


def test_a_stage_that_is_being_made_is_running(model: Recipe) -> None:
    with lock.held("m", "image"):
        assert states(model)["image"] == "running"

    assert states(model)["image"] == "not built"


def test_a_new_value_in_the_recipe_makes_its_stage_stale(project: Project, model: Recipe) -> None:
    changed = project.recipe("m", RECIPE % "v2")

    assert states(changed)["dockerfile"] == "stale"
    assert reasons(changed, "dockerfile") == ["image.tag: v1 -> v2"]


def test_what_is_made_from_something_stale_is_stale(project: Project, model: Recipe) -> None:
    publish(project, model, "image")
    (project.recipes / "m" / "base" / "config.json").write_text('{"new": 1}')

    assert states(model)["image"] == "stale"
    assert reasons(model, "image") == ["base is stale"]


def test_a_file_that_was_touched_is_told(model: Recipe) -> None:
    Path(paths.output("m", "dockerfile"), "file").write_text("edited")

    assert reasons(model, "dockerfile") == ["file is not as it was made"]


def test_an_input_that_is_gone_is_told_and_nothing_fails(project: Project, model: Recipe) -> None:
    (project.recipes / "m" / "base" / "config.json").unlink()
    (project.recipes / "m" / "base").rmdir()

    assert states(model)["base"] == "stale"


def test_a_result_s_time_is_that_of_the_run_that_made_it(project: Project, model: Recipe) -> None:
    key = manifest.read(paths.manifest("m", "base"))
    assert key is not None
    ledger.note("m", "base", key=key.key, seconds=7.0, how="built")
    ledger.note("m", "base", key=key.key, seconds=0.1, how="restored")
    ledger.note("m", "base", key="sha256:other", seconds=9.0, how="built")
    ledger.note("n", "base", key=key.key, seconds=8.0, how="built")

    assert [step.seconds for step in state.steps(report.told_of(model), model)] == [7.0, None, None]
