"""evaluate: prompts are read strictly, answers judged, reports written, the gate applied."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks import evaluate
from tasks.core import paths, stage
from tasks.core.errors import CommandFailed, UserError
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
    monkeypatch.setattr("tasks.core.toolchain.digest", lambda name: "none")
    for name in ("base", "merge"):
        project.result("m", name, {"config.json": b"{}"})
    return recipe(project)


def recipe(project: Project, more: str = "") -> Recipe:
    found = project.recipe("m", TUNED % more)
    prompts(project, PROMPT, PROMPT)
    return found


def prompts(project: Project, *rows: Any) -> Path:
    """Write the recipe's prompts; bytes and text go in as they are."""
    path = project.recipes / "m" / "prompts.jsonl"
    path.parent.mkdir(exist_ok=True)
    lines = [row if isinstance(row, str | bytes) else json.dumps(row) for row in rows]
    path.write_bytes(b"\n".join(x if isinstance(x, bytes) else x.encode() for x in lines) + b"\n")
    return path


def answers(monkeypatch: pytest.MonkeyPatch, **given: list[str]) -> None:
    """Let the models answer what is given."""

    def answer(recipe: Recipe, folder: Path) -> None:
        for name, texts in given.items():
            lines = [json.dumps(text, ensure_ascii=False) + "\n" for text in texts]
            (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")

    monkeypatch.setattr(evaluate, "_answer", answer)


def act(found: Recipe) -> str:
    failed = stage.act("evaluate", evaluate, found)
    return "" if failed is None else str(failed.get_msg()).strip()


def test_both_models_are_judged_side_by_side(
    project: Project, tuned: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, base=["It rains.", "?"], tuned=[RIGHT, "?"])
    assert act(tuned) == ""
    place = paths.output("m", "evaluate")
    report = json.loads((place / "report.json").read_text(encoding="utf-8"))
    assert report["scores"]["base"]["tool_call_valid"] == 0.0
    assert report["scores"]["tuned"]["tool_call_valid"] == 0.5
    assert report["prompts"][0]["tuned"] == {"answer": RIGHT, "valid": True}
    page = (place / "report.md").read_text(encoding="utf-8")
    assert "| 0.0 % | 50.0 % |" in page
    assert page.count("It rains.") == 1
    receipt = json.loads((place / "manifest.json").read_text())
    assert receipt["facts"]["valid"] == "0.0% -> 50.0%"


def test_an_answer_may_hold_any_text(
    project: Project, tuned: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = "a\u2028b\x85c\x1cd\n```\n{{ x }} <b>\r"
    answers(
        monkeypatch, base=[odd, "[" * 99_999], tuned=[f"Action: a\nAction Input: {'[' * 9999}", ""]
    )
    assert act(tuned) == ""
    report = json.loads((paths.output("m", "evaluate") / "report.json").read_text("utf-8"))
    assert report["prompts"][0]["base"]["answer"] == odd


@pytest.mark.parametrize(
    ("gate", "passes"), [(0.5, True), (0.51, False), (0.0, True), (1.0, False)]
)
def test_the_gate_decides_and_shows_the_worst(
    project: Project, tuned: Recipe, monkeypatch: pytest.MonkeyPatch, gate: float, passes: bool
) -> None:
    answers(monkeypatch, base=["", ""], tuned=[RIGHT, "It rains."])
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
    answers(monkeypatch, base=[RIGHT, RIGHT])
    found = project.recipe("m", "base: {path: b}\nevaluate: {prompts: prompts.jsonl}\n")
    assert list(evaluate.models(found)) == ["base"]
    assert act(found) == ""


def test_groups_are_reported_apart(
    project: Project, tuned: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts(project, PROMPT, {**PROMPT, "group": "unseen_tool"})
    answers(monkeypatch, base=["", ""], tuned=[RIGHT, ""])
    assert act(tuned) == ""
    place = paths.output("m", "evaluate")
    scores = json.loads((place / "report.json").read_text())["scores"]["tuned"]
    assert scores["tool_call_valid"] == 1.0
    assert scores["apart"] == {"unseen_tool": {"prompts": 1, "valid": 0.0}}
    assert "apart: unseen tool" in (place / "report.md").read_text()


def test_prompts_may_hold_other_line_ends_and_blank_lines(project: Project, tuned: Recipe) -> None:
    text = "a\u2028b\x85c"
    row = {**PROMPT, "messages": [{"role": "user", "content": text}]}
    prompts(project, json.dumps(row, ensure_ascii=False), "", json.dumps(PROMPT) + "\r")
    assert [p.messages[0]["content"] for p in evaluate.read_prompts(tuned)] == [
        text,
        "Weather in Graz?",
    ]


@pytest.mark.parametrize(
    "row",
    [
        "{", "[]", "7", "null", "{}", "[" * 100_000,
        {"messages": []}, {"messages": "Hi"}, {"messages": ["Hi"]}, {"messages": {"role": "user"}},
        {"messages": [{"role": "user"}]}, {"messages": [{"role": "user", "content": None}]},
        {**PROMPT, "expect": "weather"}, {**PROMPT, "expect": {"tool": 7}},
        {**PROMPT, "expect": {"tool": "weather", "arguments": ["Graz"]}}, {**PROMPT, "group": 7},
    ],
)  # fmt: skip
def test_a_line_that_is_no_prompt_is_named(project: Project, tuned: Recipe, row: Any) -> None:
    path = prompts(project, PROMPT, row)
    with pytest.raises(UserError) as caught:
        evaluate.read_prompts(tuned)
    assert str(caught.value).startswith(f"{path}:2: no prompt (")


@pytest.mark.parametrize(
    ("row", "said"), [("", "no prompts; write one a line"), (b"\xff", "byte 0: not UTF-8")]
)
def test_a_file_without_prompts_is_refused(
    project: Project, tuned: Recipe, row: str | bytes, said: str
) -> None:
    path = prompts(project, row)
    assert act(tuned).startswith(f"{path}: {said}")
    assert not paths.output("m", "evaluate").exists()


def test_a_fault_in_the_data_is_said_as_the_program_says_it(
    tuned: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(line: object, recipe: object, log: object, follow: Any, **_: object) -> None:
        follow("loading")
        follow("base: the tokenizer has no chat_template")
        raise CommandFailed("answer.py failed (65)", 65, [])

    monkeypatch.setattr("tasks.core.xtuner.run", run)
    assert act(tuned) == "base: the tokenizer has no chat_template"


def test_any_other_failure_is_the_program_s_own(
    tuned: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object, **__: object) -> None:
        raise CommandFailed("answer.py was killed by SIGKILL", -9, [])

    monkeypatch.setattr("tasks.core.xtuner.run", run)
    assert act(tuned) == "answer.py was killed by SIGKILL"


def test_the_command_names_both_models_and_where_answers_go(
    project: Project, tuned: Recipe, tmp_path: Path
) -> None:
    line = evaluate.command(tuned, tmp_path)
    assert line[1].endswith("answer.py")
    assert line[-2:] == [
        f"base={project.build}/m/base={tmp_path}/base.jsonl",
        f"tuned={project.build}/m/merge={tmp_path}/tuned.jsonl",
    ]
