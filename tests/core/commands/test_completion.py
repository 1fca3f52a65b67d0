"""Completion, in the shells themselves."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core import paths
from tasks.core.commands import completion
from tests.conftest import Project, doit

INTERACTIVE = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(doitw completion bash)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -U compinit; compinit -D; eval "$(doitw completion zsh)"',
    ),
    "fish": (["fish", "--no-config", "-i"], "doitw completion fish | source"),
}


def tool(name: str) -> pytest.MarkDecorator:
    return pytest.mark.needs(name)


SHELLS = [pytest.param(name, marks=tool(name)) for name in INTERACTIVE]


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """Return a ./doitw of the test's own, which starts this Python's doit in the project."""
    path = tmp_path / "bin" / "doitw"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\ncd {paths.ROOT} && exec {sys.executable} -m doit "$@"\n')
    path.chmod(0o755)
    return path


def next_words(project: Project, line: str) -> list[str]:
    done = doit("completion", "--line", line, build=project.build, recipes=project.recipes)
    assert (done.returncode, done.stderr) == (0, "")
    return [each.split("\t")[0] for each in done.stdout.splitlines()]


@pytest.fixture
def model(project: Project) -> Project:
    project.recipe("m", "base: {path: base}\n")
    return project


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("doit wh", ["why"]),
        ("doit base", ["base", "base:m"]),
        ("doit plan base:", ["base:m"]),
        ("doit plan base:m archive:", ["archive:m"]),
        ("doit base:m bas", ["base"]),
        ("doit plan --", ["--json"]),
        ("doit completion ", ["bash", "zsh", "fish"]),
        ("doit catalog Aqui", ["AquilaForCausalLM"]),
        ("doit gc ", []),
        ("doit nothing-like-this", []),
    ],
)
def test_a_line_is_completed_with_what_may_follow(
    model: Project, line: str, words: list[str]
) -> None:
    assert next_words(model, line) == words


def test_a_broken_recipe_leaves_all_other_words_and_is_one(model: Project) -> None:
    (model.recipes / "broken.yaml").write_text("bas: x")

    assert next_words(model, "doit wh") == ["why"]
    assert next_words(model, "doit base:") == ["base:m"]
    assert next_words(model, "doit info bro") == ["broken"]


def test_every_command_is_completed_with_what_it_means(project: Project) -> None:
    done = doit("completion", "--line", "doit ", build=project.build, recipes=project.recipes)

    found = dict(line.split("\t") for line in done.stdout.splitlines())
    assert {"list", "plan", "why", "info", "log", "catalog", "check", "gc"} <= set(found)
    assert all(found.values())


@pytest.mark.parametrize("words", [["tcsh"], ["bash", "zsh"]])
def test_an_unknown_shell_is_refused(words: list[str]) -> None:
    done = doit("completion", *words, build=None)

    assert done.returncode == 3
    assert "say bash, zsh, fish" in done.stderr


def test_the_shell_that_runs_is_the_default() -> None:
    assert doit("completion", build=None, SHELL="/usr/bin/fish").stdout == (
        completion.SCRIPTS / "doit.fish"
    ).read_text("utf-8")


@contextlib.contextmanager
def terminal(command: list[str], environ: dict[str, str]) -> Iterator[int]:
    """Run a shell on a terminal of its own."""
    ours, theirs = pty.openpty()
    command = ["setsid", "--ctty", *command]
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    os.close(theirs)
    try:
        yield ours
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        os.close(ours)


def wait_for(terminal: int, text: str) -> str:
    """Return what is shown until a text has come."""
    shown, end = "", time.monotonic() + 20
    while text not in shown and time.monotonic() < end:
        if select.select([terminal], [], [], 0.5)[0]:
            with contextlib.suppress(OSError):
                shown += os.read(terminal, 4096).decode("utf-8", "replace")
    assert text in shown, shown
    return shown


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("typed", "completed"),
    [("doitw wh", "why"), ("doitw plan base:", "base:m"), ("doitw x=5 base:", "base:m")],
)
def test_a_tab_completes(
    model: Project, program: Path, shell: str, typed: str, completed: str
) -> None:
    command, setup = INTERACTIVE[shell]
    environ = {
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "HOME": str(program.parent),
        "TERM": "dumb" if shell != "fish" else "xterm",
        "MODELWRIGHT_RECIPES": str(model.recipes),
        "MODELWRIGHT_BUILD": str(model.build),
    }
    with terminal(command, environ) as shown:
        os.write(shown, f"{setup}; echo rea''dy\n".encode())
        wait_for(shown, "ready")
        os.write(shown, f"{typed}\t".encode())
        assert "base:base" not in wait_for(shown, completed)
