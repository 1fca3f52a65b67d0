"""evaluate: answers are judged side by side, reports written, the gate applied."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks import evaluate
from tasks.core import paths
from tasks.core.engine import stage
from tasks.core.evaluation import answers
from tasks.core.recipe import Recipe
from tests.conftest import Project

RIGHT = 'Action: weather\nAction Input: {"city": "Graz"}'
PROMPT = {
    "messages": [{"role": "user", "content": "Weather in Graz?"}],
    "expect": {"tool": "weather", "arguments": {"city": "Graz"}},
}
TUNED = "base: {path: b}\nadapter: {path: a}\nevaluate: {prompts: prompts.jsonl%s}\n"


@pytest.fixture
def tuned(project: Project, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Return a recipe with two models whose toolchain need not be there."""
    monkeypatch.setattr("tasks.core.toolchains.toolchain.digest", lambda name: "none")
    for name in ("base", "merge"):
        project.result("m", name, {"config.json": b"{}"})
    return recipe(project)


def recipe(project: Project, more: str = "") -> Recipe:
    found = project.recipe("m", TUNED % more)
    prompts(project, PROMPT, PROMPT)
    return found


def prompts(project: Project, *rows: Any) -> Path:
    path = project.recipes / "m" / "prompts.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def answer(monkeypatch: pytest.MonkeyPatch, **given: list[str | list[str]]) -> None:
    """Let the models answer what is given: a text, or one for each turn."""

    def ask(
        recipe: Recipe, prompts: Any, models: Mapping[str, Path], work: Path, log: Path
    ) -> dict[str, answers.Answers]:
        return {n: [[t] if isinstance(t, str) else t for t in given[n]] for n in models}

    monkeypatch.setattr(answers, "ask", ask)


def act(found: Recipe) -> str:
    failed = stage.act("evaluate", evaluate, found)
    return "" if failed is None else str(failed.get_msg()).strip()


def report(name: str = "report.json") -> Any:
    return json.loads((paths.output("m", "evaluate") / name).read_text(encoding="utf-8"))


def test_both_models_are_judged_side_by_side(
    tuned: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, base=["It rains.", "?"], tuned=[RIGHT, "?"])
    assert act(tuned) == ""
    assert report()["scores"]["base"]["tool_call_valid"] == 0.0
    assert report()["scores"]["tuned"]["tool_call_valid"] == 0.5
    assert report()["prompts"][0]["tuned"] == {"answer": RIGHT, "valid": True}
    page = (paths.output("m", "evaluate") / "report.md").read_text(encoding="utf-8")
    assert "| 0.0 % (0 to 66) | 50.0 % (9 to 91) |" in page
    assert page.count("It rains.") == 1
    assert report()["gains"]["tuned"]["over"] == "base"
    assert "| more valid than base | 2 | | +50.0 points (-40 to +90) |" in page
    assert report("manifest.json")["facts"]["valid"] == "0.0% -> 50.0%"


def test_each_model_has_results_that_other_programs_read(
    tuned: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, base=["?", "?"], tuned=[RIGHT, "?"])
    assert act(tuned) == ""
    found = report("results-tuned.json")
    assert found["results"]["tool_call"] == {
        "alias": "tool_call",
        "tool_call_valid,none": 0.5,
        "tool_call_valid_stderr,none": 0.5,
        "tool_called,none": 0.5,
        "tool_called_stderr,none": 0.5,
        "tool_right,none": 0.5,
        "tool_right_stderr,none": 0.5,
        "arguments_json,none": 0.5,
        "arguments_json_stderr,none": 0.5,
    }
    assert found["results"]["tool_call_weather"]["alias"] == " - weather"
    assert found["group_subtasks"] == {"tool_call": ["tool_call_weather"]}
    assert found["n-samples"]["tool_call"] == {"original": 2, "effective": 2}
    assert found["higher_is_better"]["tool_call"]["tool_call_valid"] is True


def test_an_answer_may_hold_any_text(tuned: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    odd = "a\u2028b\x85c\x1cd\n```\n{{ x }} <b>\r"
    answer(
        monkeypatch, base=[odd, "[" * 99_999], tuned=[f"Action: a\nAction Input: {'[' * 9999}", ""]
    )
    assert act(tuned) == ""
    assert report()["prompts"][0]["base"]["answer"] == odd
    assert answers.read(paths.output("m", "evaluate") / "base.jsonl") == [[odd], ["[" * 99_999]]


@pytest.mark.parametrize(
    ("gate", "passes"), [(0.5, True), (0.51, False), (0.0, True), (1.0, False)]
)
def test_the_gate_decides_and_shows_the_worst(
    project: Project, tuned: Recipe, monkeypatch: pytest.MonkeyPatch, gate: float, passes: bool
) -> None:
    answer(monkeypatch, base=["", ""], tuned=[RIGHT, "It rains."])
    said = act(recipe(project, f", gate: {{tool_call_valid: {gate}}}"))
    assert (said == "") is passes
    assert paths.output("m", "evaluate").exists() is passes
    if not passes:
        assert said.startswith(
            f"{project.recipes}/m.yaml: evaluate.gate.tool_call_valid: 50.0% of the answers are "
        )
        assert "asked:    Weather in Graz?" in said
        assert 'expected: weather {"city": "Graz"}' in said
        assert "answered: 'It rains.'" in said


def test_a_model_that_is_not_tuned_is_judged_alone(
    project: Project, tuned: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, base=[RIGHT, RIGHT])
    found = project.recipe("m", "base: {path: b}\nevaluate: {prompts: prompts.jsonl}\n")
    assert list(evaluate.models(found)) == ["base"]
    assert act(found) == ""


def test_groups_are_reported_apart(
    project: Project, tuned: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts(project, PROMPT, {**PROMPT, "group": "unseen_tool"})
    answer(monkeypatch, base=["", ""], tuned=[RIGHT, ""])
    assert act(tuned) == ""
    scores = report()["scores"]["tuned"]
    assert scores["tool_call_valid"] == 1.0
    assert scores["apart"] == {"unseen_tool": {"prompts": 1, "valid": 0.0}}
    page = (paths.output("m", "evaluate") / "report.md").read_text()
    assert "apart: unseen tool" in page


def test_a_chat_of_several_turns_shows_all_of_them(
    project: Project, tuned: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {"messages": [{"role": "user", "content": "Response: rain"}]}
    prompts(project, {**PROMPT, "then": [more]})
    answer(monkeypatch, base=[["?", "It rains."]], tuned=[[RIGHT, "It pours."]])
    assert act(tuned) == ""
    (row,) = report()["prompts"]
    assert row["then"] == [{**more, "expect": {"tool": None, "arguments": {}}}]
    assert row["tuned"] == {"answer": RIGHT, "valid": True, "answers": [RIGHT, "It pours."]}
    assert row["base"]["valid"] is False
    page = (paths.output("m", "evaluate") / "report.md").read_text()
    assert "Then: Response: rain" in page
    assert "It pours." in page


def test_a_file_without_prompts_is_refused(project: Project, tuned: Recipe) -> None:
    path = prompts(project)
    assert act(tuned).startswith(f"{path}: no prompts; write one a line")
    assert not paths.output("m", "evaluate").exists()


def test_served_models_need_no_toolchain_but_the_finished_weights_stay_an_input(
    project: Project, tuned: Recipe
) -> None:
    found = recipe(project, ", served: {base: b, tuned: t, other: o}")
    task = evaluate.task(found)
    assert task["task_dep"] == []
    assert [p.parent.name for p in task["file_dep"] if p.name == "manifest.json"] == ["merge"]
    assert task["doc"].startswith("base and tuned and other answer")


def test_a_server_answers_in_the_place_of_weights(
    project: Project, tuned: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(monkeypatch, base=["?", "?"])
    asked: dict[str, str] = {}

    def ask(recipe: Recipe, prompts: Any, models: dict[str, str]) -> dict[str, Any]:
        asked.update(models)
        return {name: [[RIGHT], [RIGHT]] for name in models}

    monkeypatch.setattr("tasks.core.evaluation.endpoint.ask", ask)
    assert act(recipe(project, ", served: {gpt: some/model, tuned: mine}")) == ""
    assert asked == {"gpt": "some/model", "tuned": "mine"}
    assert list(report()["scores"]) == ["base", "tuned", "gpt"]
    assert report("manifest.json")["facts"]["valid"] == "0.0% -> 100.0% -> 100.0%"
