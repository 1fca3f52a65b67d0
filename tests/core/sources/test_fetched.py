"""What was fetched is kept for as long as a stage links to it, or a build is about to."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasks.core.sources import fetched
from tests.conftest import Project, unremovable

DIGEST = f"sha256:{'a' * 64}"


def aged(*paths: Path) -> None:
    """Let files look as if nobody had touched them for two days."""
    for path in paths:
        os.utime(path, (time.time() - 2 * fetched.DAY,) * 2)


@pytest.fixture
def old(project: Project) -> Path:
    """A file that was fetched two days ago, for a stage that is no more."""
    path = fetched.place(DIGEST)
    with fetched.alone(path):
        path.write_bytes(b"weights")
    aged(path, path.with_name(f"{path.name}.lock"))
    return path


def test_gc_drops_only_what_is_old_and_linked_by_nothing(project: Project) -> None:
    kept, dropped = (fetched.place(f"sha256:{letter * 64}") for letter in "ab")
    kept.parent.mkdir(parents=True)
    for path in (kept, dropped):
        path.write_bytes(b"weights")
    stage = project.build / "m" / "base"
    stage.mkdir(parents=True)
    (stage / "model.safetensors").symlink_to(kept)

    at_once = fetched.collect()
    later = fetched.collect(time.time() + 2 * fetched.DAY)

    assert (at_once, later) == (0, 7)
    assert kept.exists()
    assert not dropped.exists()


def test_gc_leaves_nothing_of_a_file_that_nobody_asks_for(old: Path) -> None:
    assert fetched.collect() == 7
    assert list(old.parent.iterdir()) == []


def test_gc_leaves_an_old_file_that_a_build_is_about_to_link(old: Path) -> None:
    assert not fetched.holds(DIGEST, 8)
    assert fetched.collect() == 0
    assert old.exists()


@pytest.mark.parametrize("kind", ["part", "copy.part", "clone"])
def test_gc_leaves_what_a_killed_build_left_and_another_goes_on_with(old: Path, kind: str) -> None:
    target = old.with_name("clone-0123456789ab") if kind == "clone" else old
    left = target if kind == "clone" else old.rename(f"{old}.{kind}")
    if kind == "clone":
        target.mkdir()
    with fetched.alone(target):
        aged(left, target.with_name(f"{target.name}.lock"))
        assert fetched.collect() == (7 if kind == "clone" else 0)
        assert left.exists()


def test_gc_says_what_it_cannot_remove_and_tries_it_again(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = old.with_name("clone-0123456789ab")
    lock = old.with_name(f"{old.name}.lock").rename(f"{clone}.lock")
    clone.mkdir()
    old.rename(clone / "weights")
    aged(clone, lock)

    with unremovable(monkeypatch), pytest.raises(PermissionError, match="clone-"):
        fetched.collect()
    aged(clone, lock)
    assert fetched.collect() == 7
    assert list(clone.parent.iterdir()) == []


def test_who_waited_for_a_lock_that_gc_removed_waits_for_the_new_one(old: Path) -> None:
    lock = old.with_name(f"{old.name}.lock")
    entered = threading.Event()

    def wait() -> None:
        with fetched.alone(old):
            entered.set()

    waiting = threading.Thread(target=wait)
    with ExitStack() as first:
        first.enter_context(fetched.alone(old))
        waiting.start()
        time.sleep(0.1)
        # At one stroke: in between, the lock would be anybody's.
        new = lock.with_name("new")
        with new.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            new.replace(lock)
            first.close()
            assert not entered.wait(0.2)
    waiting.join(5)
    assert entered.is_set()
