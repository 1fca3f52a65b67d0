"""What `doit clean` takes, what it leaves, and how it ends where it cannot."""

from __future__ import annotations

import fcntl
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tasks.core import paths
from tests.conftest import Project, doit

TEXT = "base: {path: base}\nimage: {base: scratch, repository: a}\n"


@pytest.fixture
def results(project: Project) -> list[Path]:
    """Return the folders of two models: local stages, one on request, one that goes outward."""
    for model in ("first", "second"):
        project.recipe(model, TEXT)
    found = [(m, s) for m in ("first", "second") for s in ("base", "archive", "push")]
    return [project.result(model, stage, {"a": b"a"}) for model, stage in found]


def left(results: Sequence[Path]) -> list[str]:
    """Return which results are there, as model/stage."""
    return ["/".join(path.parts[-2:]) for path in results if path.exists()]


def test_all_of_a_model_is_all_but_what_left_this_machine(
    project: Project, results: list[Path]
) -> None:
    done = doit("clean", "--all", "first", build=project.build, recipes=project.recipes)
    assert (done.returncode, done.stderr) == (0, "")
    assert left(results) == ["first/push", "second/base", "second/archive", "second/push"]
    stays = f"{results[2]} stays: what left this machine, `doit unship:first` takes back"
    assert stays in done.stdout.splitlines()


def test_all_is_every_model(project: Project, results: list[Path]) -> None:
    done = doit("clean", "--all", build=project.build, recipes=project.recipes)
    assert (done.returncode, done.stderr) == (0, "")
    assert left(results) == ["first/push", "second/push"]


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("fist", "clean --all: 'fist' is no model, perhaps you meant 'first'?"),
        ("no-such", "clean --all: 'no-such' is no model; `doit list` shows all models"),
    ],
)
def test_all_of_no_model_takes_nothing(
    project: Project, results: list[Path], word: str, said: str
) -> None:
    done = doit("clean", "--all", word, build=project.build, recipes=project.recipes)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", f"ERROR: {said}\n")
    assert len(left(results)) == len(results)


def test_a_receipt_that_is_named_stays_for_unship(project: Project, results: list[Path]) -> None:
    doit("clean", "push:first", "second", build=project.build, recipes=project.recipes)
    assert left(results) == ["first/base", "first/archive", "first/push", *left(results)[3:]]
    assert "second/base" not in left(results)


def test_a_stage_that_cannot_be_cleaned_keeps_none_of_the_others(
    project: Project, results: list[Path]
) -> None:
    locks = results[0].parent / "locks"
    locks.touch()
    done = doit("clean", "first", "second", build=project.build, recipes=project.recipes)
    assert done.returncode == 1
    assert done.stderr.startswith(f"ERROR: {locks}")
    assert len(done.stderr.splitlines()) == 1
    assert "first/base" in left(results)
    assert "second/base" not in left(results)


@pytest.mark.parametrize("command", ["clean m", "gc"])
def test_ctrl_c_while_a_command_waits_has_no_traceback(project: Project, command: str) -> None:
    project.recipe("m", TEXT)
    project.result("m", "base", {"a": b"a"})
    locks = [project.build / "m/locks/base", project.build / ".store/lock"]
    for path in locks:
        path.parent.mkdir(parents=True)
    with locks[0].open("w") as first, locks[1].open("w") as second:
        for file in (first, second):
            fcntl.flock(file, fcntl.LOCK_EX)
        words = [sys.executable, "-m", "doit", *command.split()]
        with subprocess.Popen(
            words, cwd=paths.ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as child:
            assert child.stdout is not None
            waits = child.stdout.readline()
            child.send_signal(signal.SIGINT)
            said = child.communicate(timeout=60)[1]
    assert "waiting for" in waits
    assert said == ""
    assert child.returncode == -signal.SIGINT
