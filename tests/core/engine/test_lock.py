"""Locks: one build at a time for each stage and model."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tasks.core.engine import lock
from tests.conftest import Project

HOLD = """
import os, sys; from tasks.core.engine import lock
with lock.held("m", "base"):
    print("held", flush=True)
    sys.stdin.readline()
"""


def holder() -> subprocess.Popen[str]:
    """Start a process that holds a lock until it reads a line."""
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    return child


@contextmanager
def waited_for() -> Iterator[subprocess.Popen[str]]:
    """Yield a holder that lets go in a moment; whoever takes the lock within has to wait."""
    with holder() as child:
        release = threading.Timer(0.2, lambda: child.communicate("\n"))
        release.start()
        started = time.monotonic()
        yield child
        waited = time.monotonic() - started
        release.join()
    assert waited > 0.1


def test_the_second_build_waits_and_says_for_whom(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    with waited_for() as child, lock.held("m", "base"):
        pass
    said = f"   waiting for process {child.pid}, which builds base:m\n"
    assert capsys.readouterr().out == said


def test_a_dead_holder_holds_nothing(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    with holder() as child:
        child.kill()
        child.wait()
        with lock.held("m", "base"):
            pass
    assert capsys.readouterr().out == ""


def test_other_stages_and_models_do_not_wait(project: Project) -> None:
    with lock.held("m", "base"):
        found = [lock.is_held(*each) for each in (("m", "data"), ("other", "base"), ("m", "base"))]
        assert found == [False, False, True]
        with lock.held("m", "data"), lock.held("other", "base"):
            pass


def test_the_lock_names_its_present_holder(project: Project) -> None:
    path = project.build / "m/locks/base"
    path.parent.mkdir(parents=True)
    path.write_text("123456789")
    with lock.held("m", "base"):
        assert path.read_text() == str(os.getpid())


def test_a_lock_that_is_held_alone_is_nobody_else_s_until_its_holder_is_dead(
    project: Project,
) -> None:
    path = project.build / "m/locks/base"
    with holder() as child:
        with lock.alone(path) as ours:
            assert not ours
        child.kill()
        child.wait()
        with lock.alone(path) as ours, lock.alone(path) as another:
            assert (ours, another) == (True, False)


def test_who_waits_without_a_word_says_none(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    with waited_for(), lock.alone(project.build / "m/locks/base", waiting="") as ours:
        assert ours
    assert capsys.readouterr().out == ""
