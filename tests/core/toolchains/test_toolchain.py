"""Toolchains: a given interpreter is judged, ours is made whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tasks.core import settings
from tasks.core.engine import process
from tasks.core.toolchains import toolchain, torchbuild
from tests.conftest import Project, doit

NEEDED = {
    "torch": "2.13.0+cpu", "xtuner": "0.2.0", "mmengine": "0.10.6", "transformers": "4.48.0",
    "peft": "0.14.0", "datasets": "3.0.0", "safetensors": "0.5.0",
}  # fmt: skip
OURS = settings.PREFIX + "TOOLCHAIN_XTUNER"


def fake(folder: Path, versions: dict[str, str], name: str = "python") -> Path:
    """Make a program that answers as a Python with these packages does."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    answer = json.dumps({"site": str(folder), "versions": versions})
    path.write_text(f"#!/bin/sh\necho run >>{folder}/runs\ncat <<'END'\n{answer}\nEND\n")
    path.chmod(0o755)
    return path


def give(monkeypatch: pytest.MonkeyPatch, path: Path | str) -> None:
    monkeypatch.setenv(OURS, str(path))
    settings.current.cache_clear()
    toolchain._probe.cache_clear()


def failure(result: Any) -> str:
    assert result is not True
    return str(result.get_msg())


def test_an_interpreter_with_all_packages_stands_in(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fake(tmp_path / "py", NEEDED)
    give(monkeypatch, path)
    assert toolchain.is_made("xtuner")
    assert toolchain.make("xtuner") is True  # as `doit -a` asks
    assert toolchain.python("xtuner") == str(path)


def test_a_prefix_stands_for_its_python(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fake(tmp_path / "conda" / "bin", NEEDED)
    give(monkeypatch, tmp_path / "conda")
    assert toolchain.python("xtuner") == str(path)


@pytest.mark.parametrize(
    ("package", "version", "said"),
    [
        ("peft", None, "peft is needed, found none"),
        ("xtuner", None, "xtuner==0.2.0 is needed, found none"),
        ("xtuner", "0.1.23", "xtuner==0.2.0 is needed, found 0.1.23"),
        ("transformers", "4.49.0", "transformers==4.48.0 is needed, found 4.49.0"),
    ],
)
def test_what_an_interpreter_lacks_is_said_with_the_setting(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    version: str | None,
    said: str,
) -> None:
    versions = {**NEEDED, package: version}
    path = fake(tmp_path / "py", {name: v for name, v in versions.items() if v})
    give(monkeypatch, path)
    assert not toolchain.is_made("xtuner")
    message = failure(toolchain.make("xtuner"))
    assert message.splitlines()[0] == (f"{path} ({OURS}) cannot stand in for the xtuner toolchain:")
    assert message.splitlines()[1:-1] == [f"  {said}"]
    assert f"unset {OURS}" in message


@pytest.mark.parametrize(
    "script", [None, "", "exit 1", "echo hello", "echo '[]'", "echo '{}'", "echo '{\"site\": 1}'"]
)
def test_what_is_no_python_is_told(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None
) -> None:
    path = tmp_path / "odd"
    if script is not None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    give(monkeypatch, path)
    assert f"{path}: not a Python that runs" in failure(toolchain.make("xtuner"))


def test_other_versions_are_another_toolchain(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for name, peft in (("a", "0.14.0"), ("b", "0.14.0"), ("c", "0.15.0")):
        give(monkeypatch, fake(tmp_path / name, {**NEEDED, "peft": peft}))
        found.append(toolchain.digest("xtuner"))
    assert found[0] == found[1] != found[2]


def test_an_interpreter_is_asked_once_until_its_packages_change(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fake(tmp_path / "py", NEEDED)
    (path.parent / "runs").touch()

    def asked() -> int:
        """Ask as a new process would; return how often the interpreter has run."""
        give(monkeypatch, path)
        toolchain.is_made("xtuner")
        return len((path.parent / "runs").read_text().splitlines())

    assert (asked(), asked()) == (1, 1)
    (path.parent / "new-package").mkdir()
    assert asked() == 2


def test_a_toolchain_that_fails_half_way_leaves_no_folder(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        toolchain.folder(name).mkdir(parents=True)
        raise OSError(28, "No space left on device")

    give(monkeypatch, "")
    monkeypatch.setattr(toolchain, "_make", fail)
    assert failure(toolchain.make("xtuner")).startswith(f"{project.build}: the disk is full")
    assert not toolchain.folder("xtuner").exists()


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)])
def test_who_stops_a_toolchain_is_told_what_it_still_does(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    stop: BaseException,
) -> None:
    def end(name: str) -> None:
        toolchain.folder(name).mkdir(parents=True)
        raise stop

    give(monkeypatch, "")
    monkeypatch.setattr(toolchain, "_make", end)
    with pytest.raises(type(stop)):
        toolchain.make("xtuner")
    assert (
        "toolchain:xtuner stopped; what there is of it is being removed" in capsys.readouterr().out
    )
    assert not toolchain.folder("xtuner").exists()


def test_a_toolchain_that_cannot_be_removed_is_not_said_to_be(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, "")
    place = toolchain.folder("xtuner")
    place.mkdir(parents=True)
    toolchain.clean("xtuner", dryrun=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", refuse)
        with pytest.raises(PermissionError):
            toolchain.clean("xtuner")
    toolchain.clean("xtuner")
    toolchain.clean("xtuner")
    assert capsys.readouterr().out.splitlines() == [f"{place} would be removed", f"{place} removed"]


@pytest.mark.parametrize("there", [True, False])
def test_where_a_link_is_in_our_toolchain_s_place_the_link_goes_alone(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    theirs = tmp_path / "theirs"
    if there:
        fake(theirs, {})
    give(monkeypatch, "")
    place = toolchain.folder("xtuner")
    place.parent.mkdir(parents=True)
    for take_away in (toolchain.make, toolchain.clean):
        place.symlink_to(theirs)
        with monkeypatch.context() as patch:
            patch.setattr(torchbuild, "choose", refuse)
            take_away("xtuner")
        assert not place.is_symlink()
    assert (theirs / "python").exists() == there


def refuse(*args: object, **options: object) -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_a_program_of_ours_that_fails_says_so(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        process.run(["sh", "-c", "echo no network; exit 1"], tmp_path / "log", what_next="try")

    give(monkeypatch, "")
    monkeypatch.setattr(toolchain, "_make", fail)
    assert "no network" in failure(toolchain.make("xtuner"))


def test_doit_says_what_the_toolchain_lacks_and_stops(tmp_path: Path) -> None:
    path = fake(tmp_path / "py", {"torch": "2.13.0"})
    done = doit("toolchain:xtuner", build=tmp_path / "build", xtuner=str(path))
    assert done.returncode == 1
    assert f"ERROR: toolchain:xtuner: {path} ({OURS}) cannot stand in" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_listing_makes_nothing(tmp_path: Path) -> None:
    assert doit("list", "--all", build=tmp_path / "build").returncode == 0
    assert not (tmp_path / "build").exists()
