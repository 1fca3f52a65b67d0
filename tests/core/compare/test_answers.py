"""Two evaluated builds: which prompts only one of them has right."""

from __future__ import annotations

import json
from typing import Any

from tasks.core import paths
from tasks.core.compare import answers
from tasks.core.engine import manifest, store
from tasks.core.engine.manifest import Manifest
from tests.conftest import Project


def evaluated(project: Project, model: str, right: str, name: str = "tuned") -> dict[str, Manifest]:
    """Publish a report in which the prompts with a `+` are right; return the build."""
    prompts: list[dict[str, Any]] = [
        {
            "messages": [{"role": "user", "content": f"question {at}"}],
            "expect": {"tool": None, "arguments": {}},
            "group": "apart" if mark == "?" else "",
            name: {"answer": "", "valid": mark == "+"},
        }
        for at, mark in enumerate(right)
    ]
    report = {"scores": {name: {}}, "prompts": prompts}
    project.result(model, "evaluate", {"report.json": json.dumps(report).encode()})
    receipt = manifest.read(paths.manifest(model, "evaluate"))
    assert receipt is not None
    return {"evaluate": receipt}


def test_the_same_prompts_are_set_side_by_side(project: Project) -> None:
    one, other = evaluated(project, "a", "+--+-?"), evaluated(project, "b", "-+++-?+", "base")
    ((what, lost, won), (more, _, by)) = answers.rows(one, other)
    assert (what, lost, won) == ("evaluate: valid only here, of 5 same prompts", 1, 2)
    assert more == "evaluate: more valid"
    assert by.startswith("+20.0 points (-")


def test_equal_answers_and_builds_without_any_say_nothing(project: Project) -> None:
    one, other = evaluated(project, "a", "+-"), evaluated(project, "b", "+-")
    assert answers.rows(one, other) == []
    assert answers.rows(one, {}) == []


def test_an_earlier_evaluation_is_read_from_the_store(project: Project) -> None:
    before = evaluated(project, "a", "+-")
    store.keep(before["evaluate"], paths.output("a", "evaluate"))
    after = evaluated(project, "b", "++")
    gone = paths.output("a", "evaluate")
    (gone / "report.json").unlink()
    (gone / "manifest.json").unlink()
    assert answers.rows(before, after)[0][1:] == (0, 1)


def test_a_report_that_is_gone_says_nothing(project: Project) -> None:
    one, other = evaluated(project, "a", "+-"), evaluated(project, "b", "-+")
    (paths.output("a", "evaluate") / "report.json").unlink()
    assert answers.rows(one, other) == []
