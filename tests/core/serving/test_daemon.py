"""Servers that outlive the build: found again, and nobody else taken for one."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.core.serving import daemon
from tasks.core.serving.daemon import Process
from tests.conftest import Project

SLEEP = ["/bin/sh", "-c", "echo up; sleep 99 & sleep 99"]


@pytest.fixture
def started(project: Project) -> Iterator[Process]:
    yield daemon.start("s", SLEEP, {"A": "b"}, ["extra"])
    daemon.stop("s")


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def children(pid: int) -> list[int]:
    end = time.monotonic() + 5
    while time.monotonic() < end:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        if len(found) == 2:
            return list(map(int, found))
        time.sleep(0.02)
    raise AssertionError("it has not started its children")


def note(found: Process) -> None:
    (daemon.folder("s") / "process.json").write_text(json.dumps(dataclasses.asdict(found)))


def test_a_server_is_found_again(started: Process) -> None:
    found = daemon.find("s")
    assert found == dataclasses.replace(started, extras=["extra"])
    assert daemon.is_as_asked(found, SLEEP, {"A": "b"})
    assert not daemon.is_as_asked(found, SLEEP, {"A": "c"})


def test_stopping_ends_all_of_its_processes(started: Process) -> None:
    family = [started.pid, *children(started.pid)]
    assert daemon.stop("s")
    assert not any(map(is_alive, family))
    assert daemon.find("s") is None
    assert not daemon.stop("s")


def test_the_children_of_a_killed_server_are_ended(started: Process) -> None:
    left = children(started.pid)
    os.kill(started.pid, signal.SIGKILL)
    os.waitpid(started.pid, 0)
    assert all(map(is_alive, left))
    assert daemon.find("s") is None
    assert daemon.stop("s")
    assert not any(map(is_alive, left))


@pytest.mark.parametrize("change", [{"started": 1}, {"boot": "another"}])
def test_a_later_process_with_the_same_number_is_left_alone(
    started: Process, change: dict[str, object]
) -> None:
    other = subprocess.Popen(["sleep", "99"], start_new_session=True)
    note(dataclasses.replace(started, pid=other.pid, **change))  # type: ignore[arg-type]
    assert daemon.find("s") is None
    assert not daemon.stop("s")
    assert other.poll() is None
    other.kill()
    other.wait()
    note(started)


def test_the_settings_do_not_reach_a_server(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWRIGHT_S3_SECRET_KEY", "secret")
    found = daemon.start("s", ["/bin/sleep", "99"], {"OURS": "1"})
    environ = Path(f"/proc/{found.pid}/environ").read_text()
    daemon.stop("s")
    assert "OURS=1" in environ
    assert "MODELWRIGHT_" not in environ


def test_a_key_in_its_environment_is_not_in_the_note(project: Project) -> None:
    found = daemon.start("s", ["/bin/sleep", "99"], {"VLLM_API_KEY": "secret"})
    assert daemon.is_as_asked(found, ["/bin/sleep", "99"], {"VLLM_API_KEY": "other"})
    assert not daemon.is_as_asked(found, ["/bin/sleep", "99"], {})
    daemon.stop("s")


def test_a_program_that_is_not_there_is_told(project: Project) -> None:
    with pytest.raises(UserError, match="/no/such: No such file or directory"):
        daemon.start("s", ["/no/such"], {})
