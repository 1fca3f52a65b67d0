"""Answers: made once, kept by all that can change them, and by nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.core import paths
from tasks.core.errors import CommandFailed, UserError
from tasks.core.evaluation import answers
from tasks.core.evaluation.prompts import Call, Prompt, Turn
from tasks.core.recipe import Recipe
from tests.conftest import Project, unremovable

PROMPTS = [
    Prompt([Turn([{"role": "user", "content": text}], [Call("weather", {})])])
    for text in ("a\u2028b", "c")
]
Asked = list[list[str]]


@pytest.fixture
def models(project: Project) -> dict[str, Path]:
    return {
        name: project.result("m", stage, {"config.json": name.encode()})
        for name, stage in (("base", "base"), ("tuned", "merge"))
    }


def recipe(project: Project, more: str = "") -> Recipe:
    text = "base: {path: b}\nadapter: {path: a}\nevaluate: {prompts: p%s}\n"
    return project.recipe("m", text % more)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Stand in for answer.py; return the names that it was asked for, run by run."""
    asked: Asked = []

    def run(line: list[str], *_: object, **__: object) -> None:
        models = line[5:]
        asked.append(models[::3])
        chats = Path(line[2]).read_text(encoding="utf-8").split("\n")[:-1]
        for model, out in zip(models[1::3], models[2::3], strict=True):
            said = Path(model, "config.json").read_text()
            texts = [[f"{said}: {json.loads(chat)['turns'][0][0]['content']}"] for chat in chats]
            answers.write(Path(out), texts)

    monkeypatch.setattr("tasks.core.xtuner.run", run)
    monkeypatch.setattr("tasks.core.toolchains.toolchain.digest", lambda name: "none")
    return asked


def ask(
    recipe: Recipe, models: dict[str, Path], prompts: list[Prompt] = PROMPTS
) -> dict[str, answers.Answers]:
    work = paths.build() / "m" / "work"
    found = answers.ask(recipe, prompts, models, work, paths.log("m", "evaluate"))
    assert not work.exists()
    return found


def test_both_models_answer_in_one_run_and_never_again(
    project: Project, models: dict[str, Path], program: Asked
) -> None:
    found = ask(recipe(project), models)
    assert found == {name: [[f"{name}: a\u2028b"], [f"{name}: c"]] for name in models}
    assert ask(recipe(project), models) == found
    assert program == [["base", "tuned"]]


def changed_model(models: dict[str, Path]) -> None:
    (models["tuned"] / "manifest.json").unlink()
    (models["tuned"] / "config.json").write_text("other")


def nothing(models: dict[str, Path]) -> None:
    pass


@pytest.mark.parametrize(
    ("more", "change", "again"),
    [
        ("", nothing, []),
        (", gate: {tool_call_valid: 0.5}", nothing, []),
        (", max_new_tokens: 3", nothing, ["base", "tuned"]),
        (", batch_size: 3", nothing, ["base", "tuned"]),
        ("", changed_model, ["tuned"]),
    ],
)
def test_only_what_can_change_an_answer_asks_again(
    project: Project,
    models: dict[str, Path],
    program: Asked,
    more: str,
    change: Callable[[dict[str, Path]], None],
    again: list[str],
) -> None:
    assert not answers.are_kept(recipe(project), PROMPTS, models)
    ask(recipe(project), models)
    change(models)
    assert answers.are_kept(recipe(project, more), PROMPTS, models) is (not again)
    ask(recipe(project, more), models)
    assert program[1:] == ([again] if again else [])


def test_what_is_expected_is_judged_later_and_asks_nothing(
    project: Project, models: dict[str, Path], program: Asked
) -> None:
    ask(recipe(project), models)
    ask(recipe(project), models, [Prompt([Turn(p.turns[0].messages)]) for p in PROMPTS])
    assert len(program) == 1
    ask(recipe(project), models, PROMPTS[:1])
    assert len(program) == 2


def test_always_execute_asks_again(
    project: Project, models: dict[str, Path], program: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(recipe(project), models)
    monkeypatch.setattr("sys.argv", ["doit", "-a", "evaluate:m"])
    ask(recipe(project), models)
    assert len(program) == 2


def test_what_one_model_answered_is_kept_when_the_next_one_fails(
    project: Project, models: dict[str, Path], program: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(line: list[str], *_: object, **__: object) -> None:
        answers.write(Path(line[7]), [["kept"], ["kept"]])
        raise CommandFailed("answer.py was killed by SIGKILL", -9, [])

    with monkeypatch.context() as patched:
        patched.setattr("tasks.core.xtuner.run", half)
        with pytest.raises(CommandFailed, match="SIGKILL"):
            answers.ask(recipe(project), PROMPTS, models, project.build / "w", project.build / "l")
    found = ask(recipe(project), models)
    assert program == [["tuned"]]
    assert found["base"] == [["kept"], ["kept"]]


def test_a_fault_in_the_data_is_said_as_the_program_says_it(
    project: Project, models: dict[str, Path], program: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(line: object, recipe: object, log: object, follow: Any, **_: object) -> None:
        follow("loading")
        follow("base: the tokenizer has no chat_template")
        raise CommandFailed("answer.py failed (65)", 65, [])

    monkeypatch.setattr("tasks.core.xtuner.run", run)
    with pytest.raises(UserError, match=r"^base: the tokenizer has no chat_template$"):
        answers.ask(recipe(project), PROMPTS, models, project.build / "w", project.build / "l")


def test_what_an_earlier_run_left_and_cannot_go_is_not_taken_for_an_answer(
    project: Project, models: dict[str, Path], program: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    stale = paths.build() / "m" / "work" / "tuned" / "answers.jsonl"
    stale.parent.mkdir(parents=True)
    answers.write(stale, [["stale"], ["stale"]])

    with unremovable(monkeypatch), pytest.raises(PermissionError, match="work"):
        ask(recipe(project), models)

    assert ask(recipe(project), models)["tuned"] == [["tuned: a\u2028b"], ["tuned: c"]]
    assert program == [["base", "tuned"]]
