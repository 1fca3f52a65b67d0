"""What a plan foresees: what would run, why, what it will cost; and nothing is made by asking."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tasks.core import paths
from tasks.core.engine import inputs, ledger, stage
from tasks.core.engine.plan import FRESH, RESTORE, RUN, Planner, Step
from tasks.core.engine.stage import Facts, TaskDict
from tasks.core.recipe import Recipe
from tests.conftest import Project


@dataclass
class Made:
    """A stage of the test's own, which writes its values."""

    values: dict[str, Any] = field(default_factory=dict)
    before: tuple[str, ...] = ()
    text: str = ""
    VERSION: int = 1

    def wanted(self, recipe: Recipe) -> bool:
        return True

    def task(self, recipe: Recipe) -> TaskDict:
        return {"file_dep": [paths.manifest(recipe.name, name) for name in self.before]}

    def key(self, recipe: Recipe) -> dict[str, Any]:
        return self.values

    def run(self, recipe: Recipe, folder: Path) -> Facts:
        (folder / "out").write_text(self.text or str(self.values))
        return {}


class Moving(Made):
    """A stage whose source has to be looked up before anything is known."""

    def key(self, recipe: Recipe) -> dict[str, Any]:
        raise inputs.NotReady("base")


class Reusing(Made):
    """A stage whose work is done already."""

    def reuses(self, recipe: Recipe) -> str:
        return "all answers are kept"


class Resuming(Made):
    """A stage that is stopped, and goes on where it was."""

    RESUMES = True

    def run(self, recipe: Recipe, folder: Path) -> Facts:
        (folder / "half").touch()
        raise KeyboardInterrupt

    def goes_on(self, recipe: Recipe, folder: Path) -> str:
        return "goes on from half" if (folder / "half").exists() else ""


class Forecasting(Made):
    """A stage that knows beforehand what it will hold."""

    def forecast(self, recipe: Recipe) -> str:
        return "sha256:known"


@pytest.fixture
def recipe(project: Project) -> Recipe:
    return project.recipe("m", "base: {path: base}\n")


def chain(**values: Any) -> dict[str, stage.Stage]:
    """Return two stages, the second of which is made from the first."""
    return {"base": Made(values), "merge": Made(before=("base",))}


def build(stages: dict[str, stage.Stage], recipe: Recipe) -> None:
    for name, made in stages.items():
        assert stage.act(name, made, recipe) is None


def planned(stages: dict[str, stage.Stage], recipe: Recipe) -> list[Step]:
    planner = Planner(stages)
    return [planner.judge(name, recipe) for name in stages]


def verdicts(steps: list[Step]) -> list[tuple[str, list[str]]]:
    return [(step.verdict, list(step.reasons)) for step in steps]


def test_what_was_never_built_runs_and_asking_makes_nothing(
    project: Project, recipe: Recipe
) -> None:
    assert verdicts(planned(chain(), recipe)) == [(RUN, ["never built"])] * 2
    assert not (project.build / "m").exists()


def test_what_is_built_is_fresh(recipe: Recipe) -> None:
    build(chain(lr=1), recipe)
    assert verdicts(planned(chain(lr=1), recipe)) == [(FRESH, [])] * 2


def test_a_value_that_changed_is_told_and_what_comes_after_waits_for_it(recipe: Recipe) -> None:
    build(chain(lr=1), recipe)
    assert verdicts(planned(chain(lr=2), recipe)) == [
        (RUN, ["lr: 1 -> 2"]),
        (RUN, ["base will be made anew"]),
    ]


def test_a_value_that_was_built_before_is_restored(recipe: Recipe) -> None:
    for lr in (1, 2):
        build(chain(lr=lr), recipe)
    assert verdicts(planned(chain(lr=1), recipe)) == [
        (RESTORE, ["lr: 2 -> 1"]),
        (RESTORE, ["base: lr: 2 -> 1"]),
    ]


def test_what_was_cleaned_away_was_built_and_is_restored(recipe: Recipe) -> None:
    """It was `restore`, and `never built`, once."""
    build(chain(lr=1), recipe)
    for name in chain():
        stage.clean(name, recipe)
    assert verdicts(planned(chain(lr=1), recipe)) == [(RESTORE, ["the store has it"])] * 2


def test_a_forecast_is_asked_for_where_it_can_tell_something(recipe: Recipe) -> None:
    class Told(Forecasting):
        asked = 0

        def forecast(self, recipe: Recipe) -> str:
            self.asked += 1
            return super().forecast(recipe)

    def stages() -> dict[str, stage.Stage]:
        return {"base": Made(), "config": Told(), "train": Made(before=("base", "config"))}

    never = stages()
    planned(never, recipe)
    assert never["config"].asked == 0  # type: ignore[attr-defined]
    build(stages(), recipe)
    stale = {**stages(), "config": Told({"lr": 2})}
    assert planned(stale, recipe)[2].verdict == RUN
    assert stale["config"].asked == 1  # type: ignore[attr-defined]


def test_a_content_that_is_known_beforehand_spares_what_comes_after(recipe: Recipe) -> None:
    def stages(lr: int) -> dict[str, stage.Stage]:
        return {"base": Forecasting({"lr": lr}), "merge": Made(before=("base",))}

    build(stages(1), recipe)
    after = planned(stages(2), recipe)[1]
    assert (after.verdict, list(after.reasons)) == (RUN, ["base: lr: 1 -> 2"])


def test_a_file_that_was_touched_is_named(project: Project, recipe: Recipe) -> None:
    build(chain(), recipe)
    (project.build / "m/base/out").unlink()
    assert verdicts(planned(chain(), recipe))[0] == (RESTORE, ["out is not as it was made"])


def test_a_source_that_was_never_looked_up_says_so(recipe: Recipe) -> None:
    """The bare name of the stage was all that it said once."""
    assert verdicts(planned({"base": Moving()}, recipe)) == [(RUN, ["never built"])]
    build({"base": Made()}, recipe)
    [(verdict, [reason])] = verdicts(planned({"base": Moving()}, recipe))
    assert (verdict, reason) == (RUN, "base: what it stands for now was not looked up yet")


def test_the_cost_is_that_of_the_last_three_runs(project: Project, recipe: Recipe) -> None:
    project.build.mkdir()
    for seconds in (1000.0, 3.0, 1.0, 2.0):
        ledger.note("m", "base", how="built", seconds=seconds, bytes=10)
    ledger.note("m", "base", how="restored", seconds=0.0, bytes=10)
    ledger.note("other", "merge", how="built", seconds=7.0, bytes=70)
    steps = planned(chain(), recipe)
    assert [(step.seconds, step.size) for step in steps] == [(2.0, 10), (None, None)]


def test_a_damaged_ledger_is_no_crash(project: Project, recipe: Recipe) -> None:
    project.build.mkdir()
    lines = '{"how": "built", "stage": "base"}\n{"how": "built", "stage": ["base"], "seconds": 1, '
    lines += '"bytes": 1}\n{"how": "built", "stage": "base", "seconds": "1", "bytes": 1}\n[]\n{\n'
    (project.build / "ledger.jsonl").write_text(lines)
    assert planned(chain(), recipe)[0].seconds is None


def test_work_that_is_done_already_costs_nothing_and_is_told(
    project: Project, recipe: Recipe
) -> None:
    def stages(lr: int, gate: int) -> dict[str, stage.Stage]:
        return {"base": Made({"lr": lr}), "evaluate": Reusing({"gate": gate}, ("base",))}

    build(stages(1, 1), recipe)
    again = planned(stages(1, 2), recipe)[1]
    assert list(again.reasons) == ["gate: 1 -> 2", "all answers are kept"]
    assert again.seconds == 0
    anew = planned(stages(2, 2), recipe)[1]
    assert "all answers are kept" not in anew.reasons
    assert anew.seconds != 0


def test_what_was_stopped_is_told_with_where_it_goes_on(recipe: Recipe) -> None:
    """It was `never built`, after days of training."""
    assert verdicts(planned({"base": Resuming()}, recipe)) == [(RUN, ["never built"])]
    with pytest.raises(SystemExit):
        stage.act("base", Resuming(), recipe)
    assert verdicts(planned({"base": Resuming()}, recipe)) == [(RUN, ["goes on from half"])]
    assert verdicts(planned({"base": Resuming({"lr": 2})}, recipe)) == [(RUN, ["never built"])]


def test_a_manifest_that_is_edited_between_two_looks_is_read_again(
    project: Project, recipe: Recipe
) -> None:
    """Even where the edit leaves its size."""
    build(chain(), recipe)
    path = project.build / "m/base/manifest.json"
    at_rest = path.stat().st_mtime_ns - 10**9
    os.utime(path, ns=(at_rest, at_rest))
    assert planned(chain(), recipe)[0].verdict == FRESH
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    assert planned(chain(), recipe)[0].verdict == RESTORE


def test_what_may_not_be_read_is_a_reason_not_a_traceback(project: Project) -> None:
    class Locked(Made):
        def key(self, recipe: Recipe) -> dict[str, Any]:
            raise PermissionError(13, "Permission denied", "/a/b")

    step = Planner({"base": Locked()}).judge("base", project.recipe("m", "base: {path: x}"))
    assert step.verdict == RUN
    assert step.reasons == ["/a/b: permission denied; make it readable for you"]
