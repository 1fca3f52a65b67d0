"""What all stages do alike: freshness, publishing, and failures as one clear message."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tasks.core import paths
from tasks.core.engine import cas, inputs, manifest, process, publish, stage
from tasks.core.engine.stage import Facts, TaskDict
from tasks.core.errors import CommandFailed, UserError
from tasks.core.recipe import Recipe
from tests.conftest import Project

Work = Callable[[Recipe, Path], Facts]


def write(recipe: Recipe, folder: Path) -> Facts:
    """Do what a stage does that is content with itself."""
    (folder / "out").write_text("done")
    return {"n": 1}


@dataclass
class Made:
    """A stage of the test's own, called base."""

    work: Work = write
    VERSION: int = 1
    values: dict[str, Any] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    runs: int = 0

    def wanted(self, recipe: Recipe) -> bool:
        return True

    def task(self, recipe: Recipe) -> TaskDict:
        return {"file_dep": self.files, "targets": ["out"]}

    def key(self, recipe: Recipe) -> dict[str, Any]:
        return self.values

    def run(self, recipe: Recipe, folder: Path) -> Facts:
        self.runs += 1
        return self.work(recipe, folder)


@pytest.fixture
def recipe(project: Project) -> Recipe:
    return project.recipe("m", "base: {path: base}\n")


def act(made: Made, recipe: Recipe) -> str:
    """Run the stage as doit does; return what it says when it fails."""
    failed = stage.act("base", made, recipe)
    return "" if failed is None else str(failed.get_msg()).strip()


def left(project: Project) -> list[str]:
    """Return the files that a failed stage left in the model's folder."""
    found = (path for path in (project.build / "m").rglob("*") if path.is_file())
    return sorted(str(path.relative_to(project.build / "m")) for path in found)


def test_a_result_has_its_manifest_and_is_fresh(project: Project, recipe: Recipe) -> None:
    made = Made()
    assert not stage.is_fresh("base", made, recipe)
    assert act(made, recipe) == ""
    receipt = manifest.read(paths.manifest("m", "base"))
    assert receipt is not None
    assert receipt.facts == {"n": 1}
    assert [file.path for file in receipt.files] == ["out"]
    assert stage.is_fresh("base", made, recipe)


@pytest.mark.parametrize(
    "change",
    [
        lambda made, place: setattr(made, "VERSION", 2),
        lambda made, place: made.values.update(lr=2),
        lambda made, place: made.files[0].write_text("other"),
        lambda made, place: made.files[0].unlink(),
        lambda made, place: (place / "out").write_text("enod"),
        lambda made, place: (place / "out").unlink(),
        lambda made, place: (place / "manifest.json").unlink(),
        lambda made, place: (place / "manifest.json").write_text("{}"),
    ],
)
def test_a_change_of_what_goes_in_or_came_out_makes_it_stale(
    project: Project, recipe: Recipe, tmp_path: Path, change: Callable[[Made, Path], object]
) -> None:
    prompts = tmp_path / "prompts"
    prompts.write_text("one")
    made = Made(values={"lr": 1}, files=[prompts])
    act(made, recipe)
    assert stage.is_fresh("base", made, recipe)
    change(made, paths.output("m", "base"))
    assert not stage.is_fresh("base", made, recipe)


def test_what_is_fresh_again_is_not_made_again(project: Project, recipe: Recipe) -> None:
    made = Made()
    act(made, recipe)
    place = paths.output("m", "base")
    (place / "out").rename(place / "moved")
    (place / "moved").rename(place / "out")
    assert stage.is_fresh("base", made, recipe)


def test_a_result_that_another_build_just_made_is_taken(project: Project, recipe: Recipe) -> None:
    first, second = Made(), Made()
    real, calls = stage.is_fresh, []

    def later(*arguments: Any) -> bool:
        """Find the result only once the lock is held."""
        calls.append(1)
        return len(calls) > 1 and real(*arguments)

    act(first, recipe)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "is_fresh", later)
        act(second, recipe)
    assert second.runs == 0


def test_a_result_that_is_published_is_in_the_store_already(
    project: Project, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = publish.publish

    def publish_and_die(scratch: Path, model: str, name: str) -> None:
        real(scratch, model, name)
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, "publish", publish_and_die)
    with pytest.raises(SystemExit):
        act(Made(), recipe)
    receipt = manifest.read(paths.manifest("m", "base"))
    assert receipt is not None
    assert cas.look_up("base", receipt.key) == receipt


def test_a_result_that_was_kept_and_not_published_is_published_by_the_next_run(
    project: Project, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    made = Made()
    with monkeypatch.context() as patch:
        patch.setattr(publish, "publish", die)
        with pytest.raises(SystemExit):
            act(made, recipe)
    assert act(made, recipe) == ""
    assert made.runs == 1
    assert stage.is_fresh("base", made, recipe)


def test_a_build_that_waits_for_a_shared_result_says_what_is_made(
    project: Project, recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    other = project.recipe("other", "base: {path: base}\n")

    def meanwhile(_: Recipe, folder: Path) -> Facts:
        thread.start()
        thread.join(0.3)
        return write(recipe, folder)

    second = Made()
    thread = threading.Thread(target=act, args=(second, other))
    assert act(Made(meanwhile), recipe) == ""
    thread.join(20)
    assert second.runs == 0
    assert f"waiting for process {os.getpid()}, which makes the same base\n" in (
        capsys.readouterr().out
    )


def test_a_fresh_result_is_made_anew_only_when_people_insist(
    project: Project, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Made()
    act(made, recipe)
    act(made, recipe)
    assert made.runs == 1
    monkeypatch.setattr("sys.argv", ["doit", "run", "-a"])
    act(made, recipe)
    assert made.runs == 2


def test_each_run_has_a_line_in_the_ledger(project: Project, recipe: Recipe) -> None:
    act(Made(), recipe)
    lines = (project.build / "ledger.jsonl").read_text().splitlines()
    found = json.loads(lines[0])
    assert len(lines) == 1
    assert (found["model"], found["stage"], found["bytes"]) == ("m", "base", 4)


def test_the_ledger_has_the_commands_that_made_a_result(project: Project, recipe: Recipe) -> None:
    def work(recipe: Recipe, folder: Path) -> Facts:
        process.run(["sh", "-c", "echo 'a b'"], paths.log("m", "base"))
        return write(recipe, folder)

    made = Made(raising(UserError("no")))
    act(made, recipe)
    act(Made(work), recipe)

    line = json.loads((project.build / "ledger.jsonl").read_text())
    assert line["commands"] == ["""sh -c 'echo '"'"'a b'"'"''"""]
    assert paths.log("m", "base") not in process.ran


def raising(error: BaseException) -> Work:
    """Return the work of a stage that fails half-way."""

    def work(recipe: Recipe, folder: Path) -> Facts:
        (folder / "half").write_text("made")
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("base.path: wrong: mend it"), "base.path: wrong: mend it"),
        (CommandFailed("xtuner failed (1)", 1, []), "xtuner failed (1)"),
        (OSError(errno.ENOSPC, "x"), "{build}: the disk is full; free some space"),
        (OSError(errno.ENOSPC, "x", "/a/b"), "/a/b: the disk is full; free some space"),
        (OSError(errno.EDQUOT, "x"), "{build}: your quota is used up"),
        (OSError(errno.EROFS, "x", "/a/b"), "/a/b: a read-only file system; set MODELWRIGHT_BUILD"),
        (OSError(errno.EACCES, "x", "/a/b"), "/a/b: permission denied; make it readable for you"),
        (OSError(errno.EIO, "Input/output error", "/a/b"), "/a/b: Input/output error"),
        (OSError("odd"), "{build}: odd"),
        (ZeroDivisionError("x"), "a fault of ours; what happened is in {build}/m/logs/base.log"),
    ],
)
def test_a_failure_is_one_message_and_leaves_nothing_half_made(
    project: Project, recipe: Recipe, error: Exception, said: str
) -> None:
    assert act(Made(raising(error)), recipe).startswith(said.format(build=project.build))
    assert not paths.output("m", "base").exists()
    assert "half" not in "".join(left(project))


def test_no_permission_in_the_build_folder_names_the_setting(
    project: Project, recipe: Recipe
) -> None:
    error = PermissionError(errno.EACCES, "x", str(project.build / "m"))
    said = act(Made(raising(error)), recipe)
    assert said.startswith(f"{project.build}/m: permission denied; set MODELWRIGHT_BUILD")


def test_a_fault_of_ours_has_its_traceback_in_the_log_only(
    project: Project, recipe: Recipe
) -> None:
    said = act(Made(raising(ZeroDivisionError("x"))), recipe)
    assert "Traceback" not in said
    assert "ZeroDivisionError" in paths.log("m", "base").read_text()


def test_a_failure_spares_the_result_before(project: Project, recipe: Recipe) -> None:
    made = Made()
    act(made, recipe)
    before = left(project)
    made.work, made.values = raising(UserError("no")), {"lr": 2}
    assert act(made, recipe) == "no"
    assert left(project) == before
    assert (paths.output("m", "base") / "out").read_text() == "done"


def test_an_input_that_changes_meanwhile_records_nothing(
    project: Project, recipe: Recipe, tmp_path: Path
) -> None:
    prompts = tmp_path / "prompts"
    prompts.write_text("one")

    def work(recipe: Recipe, folder: Path) -> Facts:
        prompts.write_text("two")
        return {}

    said = act(Made(work, files=[prompts]), recipe)
    assert "an input changed while the stage ran" in said
    assert "run `doit base:m` again" in said
    assert not paths.output("m", "base").exists()


def test_an_input_without_result_names_the_task_to_run(project: Project, recipe: Recipe) -> None:
    said = act(Made(files=[paths.manifest("m", "data")]), recipe)
    assert said == "data has no result for m; run `doit data:m`"


def test_a_file_that_is_missing_is_named_with_its_recipe(
    project: Project, recipe: Recipe, tmp_path: Path
) -> None:
    said = act(Made(files=[tmp_path / "none"]), recipe)
    assert said.startswith(f"{tmp_path}/none: no such file; {recipe.file} names it; correct")


def test_ctrl_c_ends_the_build_and_leaves_nothing(project: Project, recipe: Recipe) -> None:
    with pytest.raises(SystemExit) as caught:
        act(Made(raising(KeyboardInterrupt())), recipe)
    assert caught.value.code == 130
    assert "half" not in "".join(left(project))


def test_a_manifest_names_no_absolute_path(project: Project, tmp_path: Path) -> None:
    recipe = project.recipe("m", "base: {path: base}\n")
    own = project.recipes / "m" / "prompts"
    own.parent.mkdir()
    foreign = tmp_path / "foreign"
    for path in (own, foreign):
        path.touch()
    act(Made(files=[own, foreign, Path("templates/Dockerfile.j2")]), recipe)
    receipt = manifest.read(paths.manifest("m", "base"))
    assert receipt is not None
    assert {"m/prompts", "foreign", "templates/Dockerfile.j2"} < set(receipt.inputs)
    assert str(tmp_path) not in paths.manifest("m", "base").read_text()


def test_cleaning_takes_result_log_and_unfinished_work(project: Project, recipe: Recipe) -> None:
    act(Made(raising(ZeroDivisionError())), recipe)
    act(Made(), recipe)
    (project.build / "m" / ".base-123").mkdir()
    stage.clean("base", recipe)
    assert left(project) == ["locks/base"]


@pytest.mark.parametrize("dryrun", [True, False])
def test_cleaning_says_what_goes(
    project: Project, recipe: Recipe, capsys: pytest.CaptureFixture[str], dryrun: bool
) -> None:
    act(Made(raising(ZeroDivisionError())), recipe)
    act(Made(), recipe)
    (project.build / "m/.base-123").mkdir()
    (project.build / "m/.base-123/iter_8.pth").write_bytes(bytes(2000))
    capsys.readouterr()
    stage.clean("base", recipe, dryrun=dryrun)
    goes = "would be removed" if dryrun else "removed"
    assert capsys.readouterr().out.splitlines() == [
        f"{project.build}/m/base {goes}",
        f"{project.build}/m/.base-123 {goes} (unfinished, 2.0 kB)",
        f"{project.build}/m/logs/base.log {goes}",
    ]
    assert (project.build / "m/.base-123").exists() is dryrun


@pytest.mark.parametrize("dryrun", [True, False])
def test_cleaning_leaves_what_a_job_works_in(
    project: Project, recipe: Recipe, capsys: pytest.CaptureFixture[str], dryrun: bool
) -> None:
    act(Made(), recipe)
    capsys.readouterr()
    note = project.build / "m/.base-123" / publish.JOB
    note.parent.mkdir()
    note.write_text("42")
    said = f"{note.parent}: Slurm's job 42 works in it; cancel it with `scancel 42`, delete {note} "
    with pytest.raises(UserError, match=f"^{said}"):
        stage.clean("base", recipe, dryrun=dryrun)
    assert capsys.readouterr().out == ""
    assert (project.build / "m/base/out").exists()


def test_cleaning_takes_a_link_and_not_what_it_leads_to(
    project: Project, recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    act(Made(), recipe)
    place, elsewhere = project.build / "m/base", tmp_path / "other-disk"
    place.rename(elsewhere)
    place.symlink_to(elsewhere)
    capsys.readouterr()
    stage.clean("base", recipe)
    assert capsys.readouterr().out == f"{place} removed (a link; {elsewhere} stays)\n"
    assert not place.is_symlink()
    assert (elsewhere / "out").exists()


def test_what_cannot_be_removed_is_not_said_to_be(
    project: Project, recipe: Recipe, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    act(Made(), recipe)
    capsys.readouterr()

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "out")

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(PermissionError):
        stage.clean("base", recipe)
    assert capsys.readouterr().out == ""


def test_cleaning_where_nothing_is_makes_nothing(project: Project, recipe: Recipe) -> None:
    stage.clean("base", recipe)
    assert not project.build.exists()


def test_a_source_that_cannot_be_read_is_stale_and_no_crash(
    project: Project, recipe: Recipe
) -> None:
    made = Made()
    act(made, recipe)

    def refuse(recipe: Recipe) -> dict[str, Any]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/a/b")

    made.key = refuse  # type: ignore[method-assign]
    assert not stage.is_fresh("base", made, recipe)
    assert act(made, recipe).startswith("/a/b: permission denied")


def test_inputs_of_one_name_in_several_folders_are_told_apart(
    project: Project, tmp_path: Path
) -> None:
    files = [tmp_path / folder / "part.j2" for folder in "abc"]
    for path in files:
        path.parent.mkdir()
        path.write_text("as it was")
    taking = Made(files=files)
    recipe = project.recipe("m", "base: {path: b}\n")
    before = inputs.gather(taking, recipe)
    for path in files:
        path.write_text("edited")
        assert inputs.gather(taking, recipe) != before
        before = inputs.gather(taking, recipe)
