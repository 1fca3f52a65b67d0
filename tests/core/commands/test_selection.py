"""list, info, plan, why, check and gc: what people read, and what programs read."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from tasks.core.paths import ROOT
from tests.conftest import Project, doit

TINY = Path("recipes/tiny-agent/base").absolute()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Return a project with a model that is built, and one with a name and base in Chinese."""
    place = tmp_path_factory.mktemp("commands")
    project = Project(place / "recipes", place / "build")
    project.recipes.mkdir()
    project.recipe("m", f"base: {{path: {TINY}}}\nimage: {{base: scratch, repository: a}}\n")
    project.recipe("other", "base: {path: 模型/基础}\n")
    done = doit("m", build=project.build, recipes=project.recipes)
    assert done.returncode == 0, done.stderr
    return project


def said(project: Project, *words: str, **environ: str) -> str:
    done = doit(*words, build=project.build, recipes=project.recipes, **environ)
    assert done.returncode in (0, 1), done.stderr
    return done.stdout


def told(project: Project, *words: str) -> Any:
    return json.loads(said(project, *words))


def shown(project: Project, *words: str, columns: int = 80, **environ: str) -> str:
    """Return what a terminal of 80 columns is sent."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    folders = {
        "MODELWRIGHT_BUILD": str(project.build),
        "MODELWRIGHT_RECIPES": str(project.recipes),
    }
    plain = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS")}
    child = subprocess.Popen(
        [sys.executable, "-m", "doit", *words],
        stdout=theirs,
        stderr=subprocess.STDOUT,
        env={**plain, **folders, "TERM": "xterm", **environ},
    )
    os.close(theirs)
    text = b""
    try:
        while piece := os.read(ours, 4096):
            text += piece
    except OSError:  # what Linux says when nobody writes any more
        pass
    child.wait()
    os.close(ours)
    return text.decode()


def test_the_list_says_what_is_fresh(built: Project) -> None:
    states = {row["task"]: row.get("state") for row in told(built, "list", "--all", "-s", "--json")}

    assert (states["image:m"], states["base:other"], states["image"]) == ("fresh", "run", None)


def test_the_list_of_some_tasks_is_of_those(built: Project) -> None:
    assert said(built, "list", "-q", "base", "m").split() == ["base", "m"]
    assert said(built, "list", "-q", "--all", "base").split() == ["base", "base:m", "base:other"]


def test_info_has_what_goes_in_and_what_came_out(built: Project) -> None:
    found = told(built, "info", "--json", "dockerfile:m")

    assert found["state"] == "fresh"
    assert found["result"]["inputs"]["recipe"]["image.repository"] == "a"
    assert "Dockerfile" in {file["path"] for file in found["result"]["files"]}
    assert found["last_run"]["how"] == "built"


def test_info_is_text_of_the_recipe_not_of_python(built: Project) -> None:
    text = said(built, "info", "image:m")

    assert re.search(r"^needs +base:m$", text, re.MULTILINE)
    assert re.search(r"^state +fresh$", text, re.MULTILINE)
    assert not re.search(r"<function|Recipe\(|0x", text)


@pytest.mark.parametrize(("task", "code"), [("image:m", 0), ("base:other", 1), ("m", 0)])
def test_the_status_of_info_says_whether_a_task_is_fresh(
    built: Project, task: str, code: int
) -> None:
    done = doit("info", task, build=built.build, recipes=built.recipes)
    assert done.returncode == code, done.stderr


def test_plan_why_check_and_gc_tell_programs(built: Project) -> None:
    assert {row["verdict"] for row in told(built, "plan", "--json", "m")} == {"fresh"}
    assert [row["stage"] for row in told(built, "why", "--json", "image:m")] == ["image"]
    assert told(built, "check", "--json", "m") == []
    assert told(built, "gc", "--json")["freed"] == 0


def test_gc_drops_unfinished_work_that_no_recipe_would_go_on_with(built: Project) -> None:
    key = json.loads((built.build / "m/base/manifest.json").read_text())["key"].split(":")[1]
    ours, old = built.build / f"m/.base-{key[:12]}", built.build / "m/.base-000000000000"
    for folder in (ours, old):
        folder.mkdir()
        (folder / "part").write_text("x" * 1000)
    assert told(built, "gc", "--json")["freed"] == 1000
    assert ours.exists()
    assert not old.exists()
    (ours / "part").unlink()
    ours.rmdir()


def test_check_names_what_is_not_as_it_was_made(built: Project) -> None:
    path = built.build / "m" / "dockerfile" / "Dockerfile"
    before = path.read_bytes()
    path.write_bytes(before[:-1] + b"#")
    try:
        assert told(built, "check", "--json", "dockerfile:m") == [
            {"task": "dockerfile:m", "path": str(path)}
        ]
        assert f"{path}: not as it was made; `doit dockerfile:m` makes it" in said(
            built, "check", "dockerfile:m"
        )
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize(
    "words", [["list"], ["list", "--all", "-s"], ["info", "image:m"], ["plan"]]
)
def test_a_terminal_gets_lines_that_fit(built: Project, words: list[str]) -> None:
    for line in re.sub(r"\033\[[0-9;]*m", "", shown(built, *words)).splitlines():
        assert len(line) <= 80 or " " not in line.strip(), line


def test_colours_are_for_terminals_only(built: Project) -> None:
    assert "\033[" in shown(built, "plan", "m")
    assert "\033[" not in shown(built, "plan", "m", NO_COLOR="1")
    assert "\033[" not in shown(built, "plan", "m", TERM="dumb")
    assert "\033[" not in said(built, "plan", "m", NO_COLOR="")


def test_a_reader_that_goes_away_is_no_error(built: Project) -> None:
    command = f"{sys.executable} -m doit list --all | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)

    assert done.stdout.startswith("base ")
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["bse:m"], "'bse:m' is no task, perhaps you meant 'base:m'?"),
        (["-s", "m", "nothing-like-it"], "is no task; `doit list --all` shows all"),
        (["info", "bse:m"], "perhaps you meant 'base:m'?"),
        (["info"], "give one task"),
        (["plan", "bse:m"], "perhaps you meant 'base:m'?"),
        (["why", "bse:m"], "perhaps you meant 'base:m'?"),
        (["check", "bse:m"], "perhaps you meant 'base:m'?"),
        (["list", "bse:m"], "perhaps you meant 'base:m'?"),
        (["base:m", "--alwas-execute"], "perhaps you meant '--always-execute'?"),
    ],
)
def test_a_task_that_there_is_not_is_said(built: Project, words: list[str], near: str) -> None:
    done = doit(*words, build=built.build, recipes=built.recipes)

    assert done.returncode == 3
    assert near in done.stderr


@pytest.mark.parametrize(
    "command", "new list plan why info catalog check gc log compare completion".split()
)
def test_every_command_has_help(command: str) -> None:
    text = doit("help", command, build=None).stdout

    assert f"doit {command}" in text
    assert "--db-file" not in text
    assert max(map(len, text.splitlines())) <= 80


def test_help_on_run_has_our_defaults() -> None:
    text = doit("help", "run", build=None).stdout

    assert "[default: 2]" in text
    assert "--parallel-type" not in text


def test_processes_which_would_share_nothing_are_no_choice(built: Project) -> None:
    done = doit("base:m", "-P", "process", build=built.build, recipes=built.recipes)

    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == "ERROR: run: option -P not recognized; see `doit help run`\n"


@pytest.mark.parametrize(
    ("word", "said"),
    [("plam", "perhaps you meant 'plan'?"), ("zzzzz", "; `doit help` shows the commands")],
)
def test_help_on_what_is_not_there_is_refused(built: Project, word: str, said: str) -> None:
    done = doit("help", word, build=built.build, recipes=built.recipes)

    assert (done.returncode, done.stdout) == (3, "")
    assert f"'{word}' is neither a command nor a task" in done.stderr
    assert said in done.stderr


@pytest.mark.parametrize("word", ["help", "--help", "-h"])
def test_help_is_found_by_all_its_names(word: str) -> None:
    done = subprocess.run(["./doitw", word], cwd=ROOT, capture_output=True, text=True)

    assert done.stdout.startswith("Make for models"), done.stderr


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_the_version_is_ours(word: str) -> None:
    done = subprocess.run(["./doitw", word], cwd=ROOT, capture_output=True, text=True)
    assert re.fullmatch(r"modelwright \d+\.\d+\.\d+\n", done.stdout), done.stderr


def test_help_has_every_command_on_a_line(built: Project) -> None:
    text = shown(built, "help", NO_COLOR="1")

    assert re.search(r"^  plan +say what would run", text, re.MULTILINE)
    assert re.search(r"^  doit ship:MODEL ", text, re.MULTILINE)
    assert "of no use" not in text
    assert max(map(len, text.splitlines())) <= 80
