"""Publishing: a result appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core import paths
from tasks.core.engine import manifest, publish
from tasks.core.engine.manifest import Manifest
from tests.conftest import Project

KEY = manifest.key_of("base", {})


def fill(folder: Path, content: str) -> Path:
    """Put a file and its manifest into a folder."""
    folder.mkdir(exist_ok=True)
    (folder / "a").write_text(content)
    manifest.write(Manifest("m", "base", KEY, {}, manifest.describe(folder), {}), folder)
    return folder


def hidden(project: Project) -> list[str]:
    """Return what lies in a model's folder and is no result."""
    return sorted(p.name for p in (project.build / "m").iterdir() if p.name.startswith("."))


def test_a_scratch_folder_is_empty_and_no_other_is_left(project: Project) -> None:
    first = publish.prepare("m", "base", "sha256:1", resumes=False)
    (first / "half").touch()
    second = publish.prepare("m", "base", "sha256:2", resumes=False)
    assert list(second.iterdir()) == []
    assert hidden(project) == [second.name]


def test_a_stage_that_resumes_finds_its_own_work_again(project: Project) -> None:
    folder = publish.prepare("m", "train", "sha256:1", resumes=True)
    (folder / "last_checkpoint").touch()
    again = publish.prepare("m", "train", "sha256:1", resumes=True)
    other = publish.prepare("m", "train", "sha256:2", resumes=True)
    assert [p.name for p in again.iterdir()] == ["last_checkpoint"]
    assert list(other.iterdir()) == []


def test_a_sweep_spares_other_stages(project: Project) -> None:
    publish.prepare("m", "data", "sha256:1", resumes=False)
    publish.prepare("m", "base", "sha256:1", resumes=False)
    publish.sweep("m", "base")
    assert hidden(project) == [".data-1"]


def test_publishing_takes_the_old_result_s_place_and_leaves_nothing_else(project: Project) -> None:
    for content in ("old", "new"):
        scratch = fill(publish.prepare("m", "base", KEY, resumes=False), content)
        publish.publish(scratch, "m", "base")
    assert (project.build / "m/base/a").read_text() == "new"
    assert hidden(project) == []


def test_a_link_to_another_disk_gives_way_to_a_result(project: Project, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other-disk"
    elsewhere.mkdir()
    (project.build / "m").mkdir(parents=True)
    (project.build / "m/base").symlink_to(elsewhere)
    (project.build / "m/.base-old").symlink_to(elsewhere)
    publish.publish(fill(paths.scratch("m", "base", KEY), "new"), "m", "base")
    assert not (project.build / "m/base").is_symlink()
    assert hidden(project) == []
    assert elsewhere.is_dir()


def test_what_a_killed_run_had_finished_is_found(project: Project) -> None:
    scratch = fill(publish.prepare("m", "base", KEY, resumes=False), "done")
    assert publish.finished("m", "base", KEY) == scratch
    assert publish.finished("m", "base", "sha256:other") is None


@pytest.mark.parametrize("harm", ["no manifest", "changed file", "missing file"])
def test_what_is_not_whole_is_not_finished(project: Project, harm: str) -> None:
    scratch = fill(publish.prepare("m", "base", KEY, resumes=False), "done")
    if harm == "no manifest":
        (scratch / manifest.NAME).unlink()
    elif harm == "changed file":
        (scratch / "a").write_text("enod")
    else:
        (scratch / "a").unlink()
    assert publish.finished("m", "base", KEY) is None


def test_what_a_job_elsewhere_works_on_is_not_collected(project: Project) -> None:
    for number, mark in enumerate([publish.JOB, "iter_8.pth"]):
        scratch = publish.prepare("m", "train", f"sha256:{number}" + "0" * 63, resumes=True)
        (scratch / mark).write_text("8")
    assert publish.collect("m", "train", KEY) == 1
    assert [path.name[:8] for path in (project.build / "m").iterdir()] == [".train-0"]


@pytest.mark.parametrize("rename", [1, 2])
def test_a_kill_during_publishing_loses_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch, rename: int
) -> None:
    """Killed before either rename, the next run finds the finished folder and publishes it."""
    fill(publish.prepare("m", "base", KEY, resumes=False), "old")
    publish.publish(paths.scratch("m", "base", KEY), "m", "base")
    scratch = fill(publish.prepare("m", "base", KEY, resumes=False), "new")
    real, calls = Path.rename, []

    def killed(self: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == rename:
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        publish.publish(scratch, "m", "base")
    monkeypatch.undo()
    found = publish.finished("m", "base", KEY)
    assert found is not None
    publish.publish(found, "m", "base")
    assert (project.build / "m/base/a").read_text() == "new"
    assert hidden(project) == []
