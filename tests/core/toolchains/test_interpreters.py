"""Pythons of this machine: which can run xtuner, and what is said when none can."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.core.toolchains import interpreters


def fake(path: Path, answer: str, status: int = 0) -> Path:
    """Make a program that answers as a Python of some version does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{answer}'\nexit {status}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Take away every Python but our own, which is too new; return an empty home."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setattr(sys, "executable", str(fake(tmp_path / "new" / "python", "3.14")))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr("shutil.which", _only(tmp_path / "bin"))
    return home


def _only(folder: Path):  # type: ignore[no-untyped-def]
    return lambda name: str(folder / name) if (folder / name).exists() else None


def test_our_own_comes_first(tmp_path: Path, bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = fake(tmp_path / "own" / "python", "3.12")
    fake(tmp_path / "bin" / "python3.11", "3.11")
    monkeypatch.setattr(sys, "executable", str(own))
    found = interpreters.usable()
    assert found[0] == interpreters.Interpreter(str(own), "3.12")
    assert [one.version for one in found] == ["3.12", "3.11"]


@pytest.mark.parametrize(
    "place",
    [
        "bin/python3.11",
        "home/.pyenv/versions/3.11.7/bin/python3.11",
        "home/.local/share/uv/python/cpython-3.11.9-linux-x86_64-gnu/bin/python3.11",
    ],
)
def test_an_older_python_is_found(tmp_path: Path, bare: Path, place: str) -> None:
    path = fake(tmp_path / place, "3.11")
    assert interpreters.usable() == [interpreters.Interpreter(str(path), "3.11")]


@pytest.mark.parametrize(
    ("answer", "status"),
    [("3.13", 0), ("3.9", 0), ("3.11", 1), ("pyenv: no such version", 0), ("", 0)],
)
def test_a_python_that_cannot_is_passed_over(
    tmp_path: Path, bare: Path, answer: str, status: int
) -> None:
    fake(tmp_path / "bin" / "python3.11", answer, status)
    with pytest.raises(UserError):
        interpreters.usable()


def test_none_at_all_says_what_to_install(bare: Path) -> None:
    with pytest.raises(UserError) as caught:
        interpreters.usable()
    assert "xtuner needs Python 3.10, 3.11 or 3.12" in str(caught.value)
    assert "uv python install 3.11" in str(caught.value)
    assert "MODELWRIGHT_TOOLCHAIN_XTUNER" in str(caught.value)
