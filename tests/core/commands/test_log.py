"""`doit log`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conftest import Project, doit


@pytest.fixture
def logs(project: Project) -> Path:
    """Return the folder of m's logs: train's, and a newer one of evaluate."""
    folder = project.build / "m" / "logs"
    folder.mkdir(parents=True)
    (folder / "train.log").write_text("one\ntwo 模型\nthree\n", encoding="utf-8")
    (folder / "evaluate.log").write_text("four\n")
    os.utime(folder / "train.log", (1, 1))
    return folder


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["train:m"], "one\ntwo 模型\nthree\n"),
        (["m:train"], "one\ntwo 模型\nthree\n"),
        (["m"], "four\n"),
        (["-n", "2", "train:m"], "two 模型\nthree\n"),
    ],
)
def test_a_log_is_printed(project: Project, logs: Path, words: list[str], shown: str) -> None:
    done = doit("log", *words, build=project.build)

    assert (done.returncode, done.stdout) == (0, shown), done.stderr


def test_a_log_is_printed_although_a_recipe_is_broken(project: Project, logs: Path) -> None:
    (project.recipes / "broken.yaml").write_text("bas: x")

    assert doit("log", "m", build=project.build, recipes=project.recipes).returncode == 0


def test_other_programs_get_path_and_lines(project: Project, logs: Path) -> None:
    found = json.loads(doit("log", "--json", "train:m", build=project.build).stdout)

    assert found["path"] == str(logs / "train.log")
    assert found["lines"] == ["one", "two 模型", "three"]
    assert doit("log", "-p", "m", build=project.build).stdout == f"{logs / 'evaluate.log'}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian:m"], "no log of trian:m, perhaps you meant 'train:m'?"),
        (["base:other"], "there are evaluate:m, train:m"),
        ([], "which task?"),
    ],
)
def test_a_log_that_there_is_not_is_said(
    project: Project, logs: Path, words: list[str], said: str
) -> None:
    done = doit("log", *words, build=project.build)

    assert done.returncode == 3
    assert said in done.stderr
    assert "Traceback" not in done.stderr
