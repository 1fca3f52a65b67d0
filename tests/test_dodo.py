"""The command line, for real: what is listed, what is built, and how it ends when it cannot."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import STAGES
from tests.conftest import Project, doit

TINY = Path("recipes/tiny-agent/base").absolute()
IMAGE = "image: {base: scratch, repository: a/b}\n"


@pytest.fixture
def model(project: Project) -> Path:
    """Return the recipe m, which starts from the tiny model and makes an image of it."""
    path = project.recipes / "m.yaml"
    path.write_text(f"base: {{path: {TINY}}}\n{IMAGE}")
    return path


def half_made(build: Path) -> list[Path]:
    """Return what a stage that failed must not leave."""
    return [*build.glob("*/.*-*"), *build.glob("*/image")]


def test_the_list_has_the_stages_in_order_with_one_line_each(project: Project, model: Path) -> None:
    done = doit("list", build=project.build, recipes=project.recipes)
    assert done.returncode == 0
    words = [line.split()[0] for line in done.stdout.splitlines()]
    assert [word for word in words if word in STAGES] == list(STAGES)
    assert all(line.endswith(".") for line in done.stdout.splitlines())


def test_the_list_of_all_has_stages_and_models(project: Project, model: Path) -> None:
    done = doit("list", "--all", build=project.build, recipes=project.recipes)
    assert "image:m" in done.stdout
    assert "train:m" not in done.stdout


def processor_time(*command: str | Path) -> float:
    """Return the seconds of processor time of a command: the least of a few, to be fair."""
    taken = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(taken)


def test_listing_takes_less_than_half_a_second(project: Project, model: Path) -> None:
    """A busy machine is slower; there the libraries alone are the measure."""
    libraries = processor_time("-c", "import doit.doit_cmd, pydantic, yaml")
    assert processor_time("-m", "doit", "list") < max(0.5, 4 * libraries)


def test_a_model_is_built_and_then_fresh(project: Project, model: Path) -> None:
    first = doit("m", build=project.build, recipes=project.recipes)
    second = doit(build=project.build, recipes=project.recipes, MODELWRIGHT_DEFAULT="m")
    assert (first.returncode, second.returncode) == (0, 0)
    assert [line for line in first.stdout.splitlines() if line.startswith(".  ")] == [
        ".  base:m",
        ".  dockerfile:m",
        ".  image:m",
        ".  report:m",
    ]
    assert second.stdout.splitlines() == [
        f"-- {name}:m" for name in ("base", "dockerfile", "image", "report")
    ]
    assert half_made(project.build) == [project.build / "m/image"]


def test_outward_and_costly_stages_run_only_when_named(project: Project, model: Path) -> None:
    doit("m", build=project.build, recipes=project.recipes)
    assert not (project.build / "m/archive").exists()


@pytest.mark.parametrize("task", ["bse:m", "base:n", "n", "../m"])
def test_a_task_that_there_is_not_is_said(project: Project, model: Path, task: str) -> None:
    done = doit(task, build=project.build, recipes=project.recipes)
    assert done.returncode == 3
    assert task in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not project.build.exists()


def test_a_default_that_there_is_not_is_said(project: Project, model: Path) -> None:
    done = doit(build=project.build, recipes=project.recipes, MODELWRIGHT_DEFAULT="tiny-agnet")
    assert done.returncode == 3
    assert "tiny-agnet" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("place", ["is a file", "below a file"])
def test_a_build_folder_that_cannot_be_is_one_message(
    project: Project, model: Path, tmp_path: Path, place: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    build = file if place == "is a file" else file / "build"
    done = doit("base:m", build=build, recipes=project.recipes)
    assert done.returncode == 1
    assert done.stderr.startswith(f"ERROR: base:m: {file}")
    assert "MODELWRIGHT_BUILD" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert file.read_bytes() == b""
    planned = doit("plan", "base:m", build=build, recipes=project.recipes)
    assert (planned.returncode, planned.stderr) == (1, "")
    assert planned.stdout.splitlines()[-1] == "1 to run, 0 to restore, 0 fresh"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place])
    if mounted.returncode:
        pytest.skip("needs root, to mount a small disk")
    yield place
    subprocess.run(["umount", place], check=True)


def fill(disk: Path, left: int) -> None:
    """Leave a disk with so many bytes."""
    free = shutil.disk_usage(disk).free
    (disk / "filler").write_bytes(bytes(free - left))


@pytest.mark.parametrize("left", [0, 4096, 16384])
def test_a_full_disk_is_one_message_and_nothing_half_made(
    project: Project, model: Path, small_disk: Path, left: int
) -> None:
    fill(small_disk, left)
    done = doit("base:m", build=small_disk, recipes=project.recipes)
    assert done.returncode == 1
    assert done.stderr.startswith(f"ERROR: base:m: {small_disk}")
    assert "the disk is full; free some space and run doit again" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stdout
    assert half_made(small_disk) == []
    assert not (small_disk / "m/base").exists()


def test_a_full_disk_gets_room_by_clean_and_gc(
    project: Project, model: Path, small_disk: Path
) -> None:
    assert doit("base:m", build=small_disk, recipes=project.recipes).returncode == 0
    fill(small_disk, 0)
    for words in (["clean", "m"], ["gc", "--all"]):
        done = doit(*words, build=small_disk, recipes=project.recipes)
        assert (done.returncode, done.stderr) == (0, "")
    assert not (small_disk / "m/base").exists()
    assert not list(small_disk.glob(".store/blobs/*/*"))


def test_a_disk_too_small_for_an_image_is_told_before_it_is_full(
    project: Project, model: Path, small_disk: Path
) -> None:
    done = doit("image:m", build=small_disk, recipes=project.recipes)
    assert done.returncode == 1
    assert str(small_disk) in done.stderr
    assert "free some" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert half_made(small_disk) == []
    assert (small_disk / "m/base/manifest.json").is_file()


def test_a_full_disk_has_room_again_for_the_next_run(
    project: Project, model: Path, small_disk: Path
) -> None:
    doit("image:m", build=small_disk, recipes=project.recipes)
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    done = doit("image:m", build=small_disk, recipes=project.recipes)
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == "-- base:m"


def test_a_file_too_large_is_one_message_and_nothing_half_made(
    project: Project, model: Path
) -> None:
    """As a full disk, but without root."""
    environ = f"MODELWRIGHT_BUILD={project.build}", f"MODELWRIGHT_RECIPES={project.recipes}"
    command = ["prlimit", "--fsize=1000000", "env", *environ, sys.executable, "-m", "doit"]
    if not shutil.which("prlimit"):
        pytest.skip("needs prlimit, of util-linux")
    done = subprocess.run([*command, "image:m"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("ERROR: image:m: ")
    assert "`ulimit -f`" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert half_made(project.build) == []


@pytest.mark.parametrize("inside", [".", "build"])
def test_a_read_only_build_folder_is_one_message(
    project: Project, model: Path, small_disk: Path, inside: str
) -> None:
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = doit("base:m", build=small_disk / inside, recipes=project.recipes)
    assert done.returncode == 1
    assert done.stderr.startswith(f"ERROR: base:m: {small_disk}")
    assert "a read-only file system; set MODELWRIGHT_BUILD to a folder you can write" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stdout
    listed = doit("list", "--all", build=small_disk, recipes=project.recipes)
    assert listed.returncode == 0


def test_a_fresh_result_on_a_read_only_disk_is_still_fresh(
    project: Project, model: Path, small_disk: Path
) -> None:
    doit("base:m", build=small_disk, recipes=project.recipes)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = doit("base:m", build=small_disk, recipes=project.recipes)
    assert (done.returncode, done.stdout) == (0, "-- base:m\n")


def test_a_folder_without_permission_is_one_message(
    project: Project, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere, so that only another user shows it."""
    project.build.mkdir()
    project.build.chmod(0o555)
    try:
        if subprocess.run(["test", "-w", project.build]).returncode == 0:
            pytest.skip("root may write everywhere")
        done = doit("base:m", build=project.build, recipes=project.recipes)
    finally:
        project.build.chmod(0o755)
    assert done.returncode == 1
    assert "permission denied; set MODELWRIGHT_BUILD" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_failure_ends_with_what_ran_and_how_long(project: Project, model: Path) -> None:
    (project.recipes / "m/empty").mkdir(parents=True)
    model.write_text("base: {path: empty}\n")
    started = time.monotonic()
    done = doit("base:m", build=project.build, recipes=project.recipes)
    assert time.monotonic() - started < 30
    assert done.stdout.splitlines()[-1].startswith("1 task ran in 0.")
    assert done.stdout.splitlines()[-1].endswith(", 1 failed")


def test_what_waits_for_a_failure_is_not_counted_as_failed(project: Project, model: Path) -> None:
    (project.recipes / "m/empty").mkdir(parents=True)
    model.write_text("base: {path: empty}\n")
    done = doit("-c", "archive:m", build=project.build, recipes=project.recipes)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].endswith(", 1 failed, 1 could not begin")


def test_a_model_that_is_cleaned_has_no_results_left(project: Project, model: Path) -> None:
    doit("m", build=project.build, recipes=project.recipes)
    tried = doit("clean", "--dry-run", "m", build=project.build, recipes=project.recipes)
    assert tried.returncode == 0
    assert f"{project.build}/m/image would be removed" in tried.stdout.splitlines()
    assert (project.build / "m/image").exists()
    wrong = doit("clean", "m", "imge:m", build=project.build, recipes=project.recipes)
    assert (wrong.returncode, wrong.stderr) == (
        3,
        "ERROR: 'imge:m' is no task, perhaps you meant 'image:m'?\n",
    )
    done = doit("clean", "m", build=project.build, recipes=project.recipes)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.splitlines()) == {
        line.replace("would be ", "") for line in tried.stdout.splitlines()
    }
    assert list((project.build / "m").glob("*/manifest.json")) == []
