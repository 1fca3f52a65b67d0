"""ship and unship: what is left out, in which order it goes back, what a failure keeps."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks import OUTWARD, STAGES
from tasks.core import settings
from tasks.core.engine import shipping
from tasks.core.engine.journal import Journal
from tasks.core.errors import UserError
from tasks.core.recipe import Recipe
from tests.conftest import Project

RECIPE = "base: {path: x}\nimage: {base: scratch, repository: a/b}\nupload: {bucket: llms}\n"


def task(found: Any, name: str) -> Any:
    return next(each for each in found if (each["basename"], each["name"]) == (name, "m"))


def stages(undone: list[str], **faults: str) -> dict[str, Any]:
    """Return made-up stages that note what is undone."""

    def stage(name: str) -> Any:
        def undo(recipe: Recipe, receipt: Any) -> list[str]:
            if name in faults:
                raise UserError(faults[name])
            undone.append(name)
            return [f"{name} gone"]

        return SimpleNamespace(undo=undo, wanted=lambda recipe: True)

    return {name: stage(name) for name in ("first", "second", "third")}


def test_only_what_the_settings_know_a_place_for_is_shipped(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODELWRIGHT_REGISTRY", "registry.local")
    settings.current.cache_clear()
    recipe = project.recipe("m", RECIPE)
    found = task(shipping.tasks(STAGES, OUTWARD, [recipe]), "ship")
    assert found["task_dep"] == ["push:m"]
    function, arguments = found["actions"][0]
    function(*arguments)
    assert "upload left out: MODELWRIGHT_S3_ENDPOINT is not set" in capsys.readouterr().out


def test_a_model_that_goes_nowhere_has_nothing_to_ship(project: Project) -> None:
    recipe = project.recipe("m", "base: {path: x}\n")
    assert all(each["name"] is None for each in shipping.tasks(STAGES, OUTWARD, [recipe]))


def test_every_outward_stage_is_shipped_in_the_order_of_the_stages() -> None:
    assert list(OUTWARD) == [name for name in STAGES if name in OUTWARD]


def test_the_last_shipped_goes_back_first(project: Project) -> None:
    recipe, undone = project.recipe("m", RECIPE), []  # type: ignore[var-annotated]
    found = task(shipping.tasks(stages(undone), ["first", "second", "third"], [recipe]), "unship")
    function, arguments = found["actions"][0]
    assert function(*arguments) is None
    assert undone == ["third", "second", "first"]


def test_a_stage_that_cannot_be_undone_keeps_its_receipt_and_none_of_the_others(
    project: Project,
) -> None:
    recipe, undone = project.recipe("m", RECIPE), []  # type: ignore[var-annotated]
    for name in ("first", "second", "third"):
        project.result("m", name, {"x": b""})
    failed = shipping.unship(stages(undone, second="it is down"), recipe)
    assert failed is not None
    assert failed.get_msg().strip() == "second: it is down"
    assert undone == ["first", "third"]
    assert [path.name for path in (project.build / "m").iterdir() if path.name != "locks"] == [
        "second"
    ]


def test_what_the_system_refuses_keeps_none_of_the_others(project: Project) -> None:
    def refuse(recipe: Recipe, receipt: Any) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied", "/x")

    undone: list[str] = []
    found = stages(undone)
    found["second"].undo = refuse
    failed = shipping.unship(found, project.recipe("m", RECIPE))
    assert failed is not None
    assert "second: /x: permission denied; make it readable for you" in failed.get_msg()
    assert undone == ["first", "third"]


def test_a_receipt_that_cannot_be_removed_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(place: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(place))

    project.result("m", "first", {"x": b""})
    monkeypatch.setattr(shutil, "rmtree", refuse)
    failed = shipping.unship(stages([]), project.recipe("m", RECIPE))
    assert failed is not None
    assert f"first: {project.build}/m/first: permission denied" in failed.get_msg()


def test_what_a_failed_run_noted_is_not_passed_over_for_want_of_a_setting(project: Project) -> None:
    recipe, undone = project.recipe("m", RECIPE), []  # type: ignore[var-annotated]
    found = stages(undone, first="set the endpoint again")
    found["first"].lacks = lambda recipe: "MODELWRIGHT_X_ENDPOINT"
    assert shipping.unship(found, recipe) is None
    Journal("m", "first").write({"before": 1})
    failed = shipping.unship(found, recipe)
    assert failed is not None
    assert "first: set the endpoint again" in failed.get_msg()
    assert Journal("m", "first").read() == {"before": 1}


def test_what_may_be_in_use_elsewhere_stays(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = project.recipe("m", RECIPE)
    project.result("m", "push", {"reference": b"x"})
    assert shipping.unship({"push": SimpleNamespace()}, recipe) is None
    assert "push: stays, as it may be in use elsewhere" in capsys.readouterr().out
    assert (project.build / "m/push/manifest.json").exists()
