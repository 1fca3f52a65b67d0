"""Running foreign tools: status, log, tail, and no orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.core.engine import process
from tasks.core.errors import CommandFailed

# A build in miniature: it runs a command as a stage does, and is stopped from outside.
BUILD = """
import sys; from pathlib import Path; from tasks.core.engine import process
process.run(sys.argv[2:], Path(sys.argv[1]), each_line=lambda line: print(line, flush=True))
"""


def shell(script: str, log: Path, **options: object) -> None:
    process.run(["sh", "-c", script], log, **options)  # type: ignore[arg-type]


def is_alive(pid: int) -> bool:
    """Return whether a process runs; one that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait(condition: Callable[[], bool], seconds: float) -> bool:
    """Return whether a condition came true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "a.log"


@pytest.fixture
def build(log: Path) -> Iterator[Callable[[str], tuple[subprocess.Popen[str], list[int]]]]:
    """Start a build that runs a shell script; the script's first line is process numbers."""
    started: list[subprocess.Popen[str]] = []
    inner: list[int] = []

    def start(script: str) -> tuple[subprocess.Popen[str], list[int]]:
        command = [sys.executable, "-c", BUILD, str(log), "sh", "-c", script]
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(child)
        assert child.stdout is not None
        inner.extend(map(int, child.stdout.readline().split()))
        return child, inner

    yield start
    for child in started:
        child.kill()
        child.communicate()
    for pid in filter(is_alive, inner):
        os.kill(pid, signal.SIGKILL)


def test_output_goes_to_the_log_and_line_by_line_to_who_asks(log: Path) -> None:
    lines: list[str] = []
    shell("echo one; echo two >&2; printf three", log, each_line=lines.append)
    assert lines == ["one", "two", "three"]
    assert log.read_bytes() == b"one\ntwo\nthree"


def test_a_new_run_starts_a_new_log(log: Path) -> None:
    shell("echo one", log)
    shell("echo two", log)
    assert log.read_text() == "two\n"


def test_output_that_is_no_utf_8_does_no_harm(log: Path) -> None:
    lines: list[str] = []
    shell(r"printf '\377\n'", log, each_line=lines.append)
    assert lines == ["�"]
    assert log.read_bytes() == b"\xff\n"


@pytest.mark.parametrize(
    ("script", "status", "how"),
    [
        ("exit 1", 1, "sh failed (1)"),
        ("exit 65", 65, "sh failed (65)"),
        ("kill -KILL $$", -9, "sh was killed by SIGKILL"),
        ("kill -SEGV $$", -11, "sh was killed by SIGSEGV"),
    ],
)
def test_a_failure_has_the_true_status(log: Path, script: str, status: int, how: str) -> None:
    with pytest.raises(CommandFailed, match="sh") as caught:
        shell(script, log)
    assert caught.value.status == status
    assert str(caught.value).startswith(how)


def test_a_failure_shows_command_log_last_lines_and_what_next(log: Path) -> None:
    with pytest.raises(CommandFailed) as caught:
        shell("seq 20; exit 2", log, what_next="try again")
    said = str(caught.value).splitlines()
    assert said[1] == "  command: sh -c 'seq 20; exit 2'"
    assert said[2] == f"  log: {log}"
    assert said[3:-1] == [f"  | {number}" for number in range(9, 21)]
    assert said[-1] == "try again"
    assert caught.value.tail[-1] == "20"


def test_environment_is_added_to_ours(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    shell('echo "$OURS $THEIRS"', log, environ={"THEIRS": "2"})
    assert log.read_text() == "1 2\n"


def test_a_command_runs_where_it_is_told_and_reads_no_keyboard(log: Path, tmp_path: Path) -> None:
    shell("pwd; cat", log, cwd=tmp_path)
    assert log.read_text() == f"{tmp_path}\n"


def test_a_command_that_is_not_there_is_named(log: Path) -> None:
    with pytest.raises(CommandFailed, match="no-such-tool: No such file") as caught:
        process.run(["no-such-tool"], log)
    assert caught.value.status == 127


@pytest.mark.parametrize("rest", ["sleep 60 &", "sleep 60 >/dev/null 2>&1 &"])
def test_what_a_command_leaves_running_ends_with_it(log: Path, rest: str) -> None:
    """Also when it holds the command's output open, which would else never end."""
    started = time.monotonic()
    shell(f"{rest} echo $!; exit 0", log)
    assert time.monotonic() - started < 5
    assert wait(lambda: not is_alive(int(log.read_text())), 1)


def test_a_command_that_closes_its_output_is_waited_for(log: Path) -> None:
    with pytest.raises(CommandFailed) as caught:
        shell("exec >&- 2>&-; sleep 0.2; exit 7", log)
    assert caught.value.status == 7


def test_a_fault_in_who_follows_ends_the_command(log: Path) -> None:
    def fail(line: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        shell("echo $$; sleep 60", log, each_line=fail)
    assert not is_alive(int(log.read_text()))


Start = Callable[[str], tuple[subprocess.Popen[str], list[int]]]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_stopping_the_build_ends_the_whole_group_within_a_second(
    build: Start, number: signal.Signals
) -> None:
    child, group = build("sleep 60 & echo $$ $!; wait")
    assert all(map(is_alive, group))
    child.send_signal(number)
    assert wait(lambda: not any(map(is_alive, group)), 1)
    child.wait(5)
    assert child.returncode in (128 + number, -number)


def test_a_helper_that_ignores_the_signal_ends_with_its_leader(build: Start) -> None:
    child, group = build('sh -c "trap : TERM; echo $$ \\$\\$; sleep 60; sleep 60" & wait')
    child.terminate()
    assert wait(lambda: not any(map(is_alive, group)), 3)


def test_a_second_signal_ends_what_ignored_the_first(build: Start) -> None:
    child, group = build("trap : TERM; echo $$; while :; do sleep 0.1; done")
    child.terminate()
    time.sleep(0.3)
    assert all(map(is_alive, group))
    child.terminate()
    assert wait(lambda: not any(map(is_alive, group)), 2)


def test_a_killed_build_takes_the_whole_group_along(build: Start) -> None:
    child, group = build("sleep 60 & echo $$ $!; wait")
    child.kill()
    assert wait(lambda: not any(map(is_alive, group)), 1)
