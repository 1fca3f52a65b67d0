"""What a build that found nothing to do notes, and what makes the note worthless."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core import paths
from tasks.core.engine import untouched
from tests.conftest import Project

RECIPE = "base: {path: base}\nimage: {base: scratch, layout: false, repository: m}\n"


@pytest.fixture
def notes(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the notes of tests apart from the project's own."""
    folder = tmp_path_factory.mktemp("venv") / "notes"
    monkeypatch.setattr(untouched, "NOTES", folder)
    return folder


@pytest.fixture
def fresh(project: Project, monkeypatch: pytest.MonkeyPatch, notes: Path) -> Project:
    """Build a small model."""
    base = project.recipes / "m/base"
    shutil.copytree(paths.ROOT / "recipes/tiny-agent/base", base)
    (project.recipes / "m.yaml").write_text(RECIPE)
    monkeypatch.setenv("MODELWRIGHT_DEFAULT", "m")
    assert look(notes).returncode == 0
    assert not notes.exists()
    return project


def look(notes: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run doit, with its notes in the test's folder."""
    program = (
        "import sys; from pathlib import Path; from tasks.core.engine import untouched; "
        f"untouched.NOTES = Path({str(notes)!r}); "
        "from doit.__main__ import main; sys.argv[0] = 'doit'; sys.exit(main())"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *words], cwd=paths.ROOT, capture_output=True, text=True
    )


def test_what_nobody_touched_is_said_again(fresh: Project, notes: Path) -> None:
    seen = look(notes)
    assert untouched.recall([]) == seen.stdout != ""


def test_a_warning_is_said_each_time(fresh: Project, notes: Path) -> None:
    (fresh.recipes / "typo.yaml").write_text("trian: {}\n")
    assert "typo.yaml:1: base: missing" in look(notes, "m").stderr
    assert untouched.recall(["m"]) is None
    (fresh.recipes / "typo.yaml").unlink()
    assert look(notes, "m").stderr == ""
    assert untouched.recall(["m"]) is not None


def test_another_command_is_another_question(fresh: Project, notes: Path) -> None:
    look(notes)
    assert untouched.recall(["base:m"]) is None


@pytest.mark.parametrize(
    "touch",
    [
        lambda p: (p.recipes / "m.yaml").write_text(RECIPE + "# a comment\n"),
        lambda p: (p.recipes / "n.yaml").write_text(RECIPE),
        lambda p: (p.recipes / "m/base/config.json").open("a").write(" "),
        lambda p: (p.recipes / "m/base/new.txt").write_text("new"),
        lambda p: (p.recipes / "m/base/model.safetensors").touch(),
        lambda p: (p.build / "m/dockerfile/Dockerfile").open("a").write("#"),
        lambda p: (p.build / "m/dockerfile/Dockerfile").unlink(),
        lambda p: (p.build / "m/image/manifest.json").unlink(),
        lambda p: shutil.rmtree(p.build / "m/base"),
        lambda p: shutil.rmtree(p.build),
    ],
    ids=[
        "recipe edited", "recipe added", "input edited", "input added", "input touched",
        "output edited", "output deleted", "manifest deleted", "stage deleted", "build deleted",
    ],
)  # fmt: skip
def test_a_touch_is_seen(fresh: Project, notes: Path, touch: Callable[[Project], object]) -> None:
    look(notes)
    assert untouched.recall([]) is not None
    touch(fresh)
    assert untouched.recall([]) is None


def test_other_settings_are_another_question(
    fresh: Project, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(notes)
    monkeypatch.setenv("MODELWRIGHT_TORCH", "cpu")
    assert untouched.recall([]) is None


def test_a_broken_note_is_no_note(fresh: Project, notes: Path) -> None:
    look(notes)
    for note in notes.iterdir():
        note.write_text(note.read_text()[:100])
    assert untouched.recall([]) is None


def test_a_build_that_did_something_is_not_noted(fresh: Project, notes: Path) -> None:
    shutil.rmtree(fresh.build / "m/dockerfile")
    look(notes)
    assert untouched.recall([]) is None


NOTE = """
import socket, subprocess, sys, time
from pathlib import Path
from tasks.core.engine import untouched
untouched.NOTES = Path("notes/all").absolute()
for folder in ("notes", "in", "out"):
    Path(folder).mkdir()
Path("in/input").write_text("old")
time.sleep(0.02)
untouched.watch()
Path("in/input").read_text()
{}
untouched.note([], "all fresh")
sys.exit(untouched.recall([]) is None)
"""


@pytest.mark.parametrize(
    ("deed", "noted"),
    [
        ("", True),
        ("Path('out/output').write_text('new')", True),
        ("Path('in/input').write_text('newer')", False),
        ("subprocess.run(['true'])", False),
        ("socket.socket().connect_ex(('127.0.0.1', 9))", False),
    ],
    ids=["only read", "wrote elsewhere", "input changed meanwhile", "asked a program", "server"],
)
def test_only_what_was_at_rest_and_near_is_noted(deed: str, noted: bool, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOTE.format(deed)], cwd=tmp_path,
        env={"PYTHONPATH": str(paths.ROOT), "HOME": "/"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    assert (done.returncode == 0) is noted


SEEN = """
import sys
from tasks.core.engine import untouched
untouched.watch()
for path in sys.argv[2:]:
    open(path).read() if sys.argv[1] == "opened" else untouched.saw(path)
print(*untouched._looked_at(), sep="\\n")
"""


@pytest.mark.parametrize("how", ["opened", "named"])
def test_memory_is_a_place_for_builds(how: str) -> None:
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file:
        assert file.name in seen(how, file.name)


def test_what_is_asked_for_by_name_counts_wherever_it_is() -> None:
    """A toolchain's packages may lie where our own Python's do."""
    path = os.__file__
    assert path in seen("named", path)
    assert path not in seen("opened", path)


def seen(how: str, path: str) -> list[str]:
    command = [sys.executable, "-c", SEEN, how, path]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_doitw_answers_from_the_note_without_doit(tmp_path: Path) -> None:
    """The program that doitw starts needs nothing but the standard library."""
    program = paths.ROOT / "tasks/core/engine/untouched.py"
    code = f"import runpy; print(runpy.run_path({str(program)!r})['recall'](['no-such-task']))"
    bare = [sys.executable, "-I", "-S", "-c", code]
    done = subprocess.run(bare, capture_output=True, text=True)
    assert done.stdout == "None\n", done.stderr


QUICK = """
from tasks.core.engine import untouched
untouched.recall = lambda words: "-- base:m\\n"
untouched.main()
"""


@pytest.mark.parametrize("where", ["| true", "> /dev/full", ">&-"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_answer_from_the_note_outlives_its_reader(where: str, unbuffered: str) -> None:
    script = f"set -o pipefail; {{ sleep 0.1; {sys.executable} -c '{QUICK}'; }} {where}"
    environ = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        ["bash", "-c", script], cwd=paths.ROOT, env=environ, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_notes_are_few(notes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(untouched, "_since", 1 << 62)
    for number in range(untouched.MOST + 5):
        untouched.note([f"task-{number}"], "")
    assert len(list(notes.iterdir())) == untouched.MOST


def test_a_build_outlives_whoever_reads_its_output(fresh: Project) -> None:
    shutil.rmtree(fresh.build / "m/dockerfile")
    command = f"{sys.executable} -m doit | head -c 1"
    done = subprocess.run(["bash", "-c", command], cwd=paths.ROOT, capture_output=True, text=True)
    assert done.stderr == ""
    assert (fresh.build / "m/dockerfile/manifest.json").exists()
