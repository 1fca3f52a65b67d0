"""Builds of torch: a CPU build without a GPU, and never gigabytes of CUDA unasked."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tasks.core import settings
from tasks.core.errors import UserError
from tasks.core.toolchains import torchbuild
from tasks.core.toolchains.interpreters import Interpreter
from tests.conftest import Project

PYTHONS = [Interpreter("/usr/bin/python3.11", "3.11"), Interpreter("/usr/bin/python3.12", "3.12")]
CPU, CUDA = "2.13.0+cpu", "2.13.0"


@pytest.fixture
def machine(project: Project, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Be a machine without a GPU."""
    monkeypatch.setattr(torchbuild, "has_gpu", lambda: False)
    monkeypatch.setattr("sys.platform", "linux")
    return monkeypatch


def offers(monkeypatch: pytest.MonkeyPatch, found: dict[tuple[str, bool], str]) -> None:
    """Say what pip finds, by Python and by whether PyTorch's own index is asked."""

    def look_up(python: Interpreter, ways: Sequence[str]) -> str:
        return found.get((python.version, bool(ways)), "")

    monkeypatch.setattr(torchbuild, "_look_up", look_up)


def wish(monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("MODELWRIGHT_TORCH", word)
    settings.current.cache_clear()


@pytest.mark.parametrize(
    ("found", "python", "asks_index"),
    [
        ({("3.11", False): CPU}, "3.11", False),
        ({("3.11", False): CUDA, ("3.12", False): CPU}, "3.12", False),
        ({("3.11", False): CUDA, ("3.11", True): CPU}, "3.11", True),
        ({("3.11", True): CPU, ("3.12", False): CPU}, "3.12", False),
    ],
)
def test_a_cpu_build_is_taken_wherever_pip_finds_one(
    machine: pytest.MonkeyPatch, found: dict[tuple[str, bool], str], python: str, asks_index: bool
) -> None:
    offers(machine, found)
    build = torchbuild.choose(PYTHONS)
    assert (build.python.version, build.version) == (python, CPU)
    assert (torchbuild.CPU_INDEX in build.requirement) is asks_index
    assert build.requirement[-1] == f"torch=={CPU}"
    assert build.is_cpu


@pytest.mark.parametrize("found", [{}, {("3.11", False): CUDA, ("3.12", True): CUDA}])
def test_cuda_is_never_taken_unasked(
    machine: pytest.MonkeyPatch, found: dict[tuple[str, bool], str]
) -> None:
    offers(machine, found)
    with pytest.raises(UserError, match=r"no CPU build of torch 2\.13\.0") as caught:
        torchbuild.choose(PYTHONS)
    assert "MODELWRIGHT_TORCH=cuda" in str(caught.value)


@pytest.mark.parametrize(("word", "gpu"), [("cuda", False), ("auto", True), ("cuda", True)])
def test_cuda_is_taken_when_asked_for_or_where_a_gpu_is(
    machine: pytest.MonkeyPatch, word: str, gpu: bool
) -> None:
    machine.setattr(torchbuild, "has_gpu", lambda: gpu)
    wish(machine, word)
    build = torchbuild.choose(PYTHONS)
    assert build.requirement == ["torch==2.13.0"]
    assert not build.is_cpu


def test_a_cpu_build_may_be_asked_for_where_a_gpu_is(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(torchbuild, "has_gpu", lambda: True)
    offers(machine, {("3.11", False): CPU})
    wish(machine, "cpu")
    assert torchbuild.choose(PYTHONS).is_cpu
