"""Output that does not arrive: no training ends for it, and no table is lost without a word."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Project

BASE = "recipes/tiny-agent/base"


def shell(project: Project, line: str, **options: str) -> subprocess.CompletedProcess[str]:
    """Run a line of shell with `doit` as our doit."""
    places = {"MODELWRIGHT_BUILD": str(project.build), "MODELWRIGHT_RECIPES": str(project.recipes)}
    script = f'doit() {{ "{sys.executable}" -m doit "$@"; }}; {line}'
    environ = {**os.environ, **places, "NO_COLOR": "1", **options}
    return subprocess.run(["bash", "-c", script], env=environ, capture_output=True, text=True)


@pytest.fixture(autouse=True)
def model(project: Project) -> None:
    """Write a recipe that takes no time, and a log."""
    project.recipe("m", f"base: {{path: {Path(BASE).absolute()}}}")
    log = project.build / "m/logs/train.log"
    log.parent.mkdir(parents=True)
    log.write_text("loss \N{ROCKET}\n", encoding="utf-8")


@pytest.mark.parametrize("where", [">&-", "> /dev/full", ">&- 2>&-"])
def test_a_build_outlives_its_output(project: Project, where: str) -> None:
    done = shell(project, f"doit m {where}")
    assert (done.returncode, done.stderr) == (0, "")
    assert (project.build / "m/report/index.html").exists()


@pytest.mark.parametrize("command", ["plan m --json", "log train:m"])
def test_what_does_not_arrive_is_a_failure(project: Project, command: str) -> None:
    done = shell(project, f"doit {command} > /dev/full")
    assert done.returncode == 3
    assert done.stderr == "ERROR: stdout: No space left on device; write it elsewhere\n"


@pytest.mark.parametrize("command", ["list", "log train:m", "help"])
def test_a_command_without_stdout_has_no_traceback(project: Project, command: str) -> None:
    done = shell(project, f"doit {command} >&-", NO_COLOR="", TERM="xterm")
    assert (done.returncode, done.stderr) == (0, "")


def test_what_an_encoding_lacks_is_spelt(project: Project) -> None:
    done = shell(project, "doit log train:m", PYTHONIOENCODING="gbk")
    assert (done.stdout, done.stderr) == ("loss \\U0001f680\n", "")
