"""Training: what its key holds, the judgement; and for real: killed, resumed, repeated, crashed."""

from __future__ import annotations

import json
import signal
import zipfile
from pathlib import Path

import pytest

from tasks import train
from tasks.core import paths, settings
from tasks.core.engine import inputs, pools
from tasks.core.errors import UserError
from tasks.core.toolchains import torchbuild
from tasks.core.training import checkpoints
from tasks.core.training.trainlog import Record

from .conftest import Project, doit
from .training import RECIPE, Bench, few, recipe, trainers, wait


@pytest.fixture
def bench(tmp_path: Path, xtuner: str) -> Bench:
    return Bench(tmp_path, xtuner)


def record(iteration: int, **values: float) -> Record:
    return Record(iteration, 20, {"lr": 1e-3, "loss": 1.0, **values}, "")


def test_the_effective_batch_is_shown_and_part_of_the_key(project: Project) -> None:
    one = project.recipe("one", RECIPE)
    four = project.recipe("four", recipe("processes: 4"))

    assert "4 devices x batch 1 x 2 = 8 samples a step" in train.task(four)["doc"]
    assert (train.key(one)["effective batch"], train.key(four)["effective batch"]) == (2, 8)


def test_where_the_work_runs_is_not_part_of_the_key(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = train.key(project.recipe("here", recipe("processes: 4")))
    monkeypatch.setenv("MODELWRIGHT_LAUNCHER", "slurm")
    settings.current.cache_clear()

    assert train.key(project.recipe("there", recipe("processes: 2, nodes: 2"))) == here


def test_a_file_of_deepspeeds_settings_counts_by_what_it_says(project: Project) -> None:
    made = project.recipe("m", recipe("deepspeed: own.json"))
    (project.recipes / "m").mkdir()
    own = project.recipes / "m" / "own.json"
    own.write_text("{}")

    assert own in train.task(made)["file_dep"]
    assert inputs._label(own, made) == "m/own.json"


@pytest.mark.parametrize(
    ("line", "said"),
    [("dtype: float16", "train.dtype: float16"), ("method: qlora", "train.method: qlora")],
)
def test_what_needs_a_gpu_is_refused_before_anything_starts(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    monkeypatch.setattr(torchbuild, "has_gpu", lambda: False)
    monkeypatch.setattr(pools, "names", list)
    text = RECIPE.replace("dtype: float32", line) if "dtype" in line else f"{RECIPE}  {line}\n"
    made = project.recipe("m", text)

    with pytest.raises(UserError, match=f"{said} needs a GPU"):
        train.run(made, tmp_path)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([], "without logging a step"),
        ([record(20, loss=float("nan"))], "diverged"),
        ([record(n, lr=1e-9) for n in (5, 10, 15, 20)], "learning rate never rose"),
        ([record(15)], "stopped at iteration 15 of 20 and said nothing .checkpoints: none."),
    ],
)
def test_a_training_that_did_not_learn_is_a_failure(
    project: Project, tmp_path: Path, records: list[Record], said: str
) -> None:
    made = project.recipe("m", RECIPE)

    with pytest.raises(UserError, match=said):
        train._check(made, records, tmp_path, tmp_path / "train.log")


def test_what_told_nothing_is_trained_anew_and_not_gone_on_with(
    project: Project, tmp_path: Path
) -> None:
    """Its last checkpoint left nothing to train, and so nothing to log, once and for ever."""
    (tmp_path / "iter_5.pth").write_bytes(b"")
    (tmp_path / "iter_4.pth").mkdir()

    with pytest.raises(UserError, match="run doit again to train anew"):
        train._check(project.recipe("m", RECIPE), [], tmp_path, tmp_path / "train.log")
    assert checkpoints.all_in(tmp_path) == []


def test_a_wanted_checkpoint_that_is_not_there_is_a_failure(
    project: Project, tmp_path: Path
) -> None:
    made = project.recipe("m", f"{RECIPE}checkpoint: 8\n")
    (tmp_path / "iter_20.pth").write_bytes(b"")

    with pytest.raises(UserError, match=r"iter_8.pth is not among .* leaves .iter_20.pth."):
        train._check(made, [record(20)], tmp_path, tmp_path / "train.log")


def test_a_wanted_checkpoint_that_cannot_be_loaded_is_a_failure(
    project: Project, tmp_path: Path
) -> None:
    made = project.recipe("m", RECIPE)
    with zipfile.ZipFile(tmp_path / "iter_20.pth", "w") as file:
        file.writestr("data.txt", "no checkpoint")

    with pytest.raises(UserError, match=r"iter_20.pth"):
        train._check(made, [record(20)], tmp_path, tmp_path / "train.log")


def test_the_last_checkpoint_is_a_target_where_its_number_is_known(project: Project) -> None:
    assert train.task(project.recipe("m", RECIPE))["targets"] == ["iter_24.pth"]
    assert train.task(project.recipe("n", f"{RECIPE}checkpoint: 8\n"))["targets"] == ["iter_8.pth"]


def test_a_checkpoint_that_was_not_left_makes_no_training_run(project: Project) -> None:
    project.result("m", "train", {"iter_24.pth": b""}, {"iterations": 24})

    assert train.task(project.recipe("m", RECIPE))["targets"] == ["iter_24.pth"]
    assert train.task(project.recipe("m", f"{RECIPE}checkpoint: 9\n"))["targets"] == []


@pytest.mark.parametrize(
    ("saved", "said"),
    [((), ""), ((4, 8), "goes on from iter_8.pth"), ((8, 9), "goes on from iter_8.pth")],
)
def test_a_training_says_from_where_it_goes_on(
    project: Project, tmp_path: Path, saved: tuple[int, ...], said: str
) -> None:
    """A checkpoint amid a step, of two batches here, is not the one."""
    for number in saved:
        (tmp_path / f"iter_{number}.pth").write_bytes(b"")
    assert train.goes_on(project.recipe("m", RECIPE), tmp_path) == said


def test_losses_are_kept_without_their_times(tmp_path: Path) -> None:
    (tmp_path / "iter_20.pth").write_bytes(b"")
    (tmp_path / "iter_24.pth.part").write_bytes(b"")
    (tmp_path / "last_checkpoint").write_text("x")

    train._keep_results([record(10, time=0.3), record(20, grad_norm=0.5)], tmp_path)

    lines = [json.loads(line) for line in (tmp_path / "losses.jsonl").open()]
    assert lines == [
        {"iter": 10, "loss": 1.0, "lr": 1e-3},
        {"iter": 20, "loss": 1.0, "lr": 1e-3, "grad_norm": 0.5},
    ]
    kept = sorted(p.name for p in tmp_path.iterdir())
    assert kept == ["iter_20.pth", "loss.svg", "losses.jsonl"]


@pytest.mark.slow
def test_a_killed_training_ends_with_the_bytes_of_an_undisturbed_one(bench: Bench) -> None:
    bench.write("m", RECIPE)
    bench.stop("train:m", bench.has("m", 8), signal.SIGKILL)
    wait(lambda: trainers(bench.build) == [], 10)
    second = bench.doit("train:m")
    undisturbed = bench.folder / "undisturbed"
    doit("train:m", build=undisturbed, recipes=bench.recipes, xtuner=bench.xtuner)

    assert second.returncode == 0, second.stderr
    assert "   goes on from iter_" in second.stdout
    assert "resumed epoch: 0, iter: " in bench.log("m")
    for stage in ("convert", "config", "train"):
        own, other = (b / "m" / stage / "manifest.json" for b in (bench.build, undisturbed))
        assert own.read_bytes() == other.read_bytes(), stage


@pytest.mark.slow
def test_a_crash_of_xtuner_is_a_failure_that_shows_its_last_words(bench: Bench) -> None:
    bench.write("m", f"{RECIPE}  template: own.py.j2\n")
    own = paths.ROOT / "templates" / "xtuner_config.py.j2"
    broken = own.read_text().replace("visualizer = None", "visualizer = None\n1 / 0")
    (bench.recipes / "m").mkdir()
    (bench.recipes / "m" / "own.py.j2").write_text(broken)

    done = bench.doit("train:m")

    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback (most recent call last)" not in done.stdout
    assert not (bench.build / "m" / "train").exists()


@pytest.mark.slow
def test_a_preset_lays_epochs_end_to_end(bench: Bench) -> None:
    text = few(RECIPE, bench.folder / "few", 27).replace("max_iters: 24", "max_epochs: 3")
    text = text.replace("  batch_size: 1\n  accumulative_counts: 2\n", "  preset: auto\n")
    bench.write("m", text)
    bench.environ["MODELWRIGHT_DEVICES"] = "none"

    done = bench.doit("adapter:m")

    assert done.returncode == 0, done.stderr
    assert "batch_size 8, accumulative_counts 2" in done.stdout
    # 81 rows; with a batch at the end of each epoch they would be 12.
    assert (bench.build / "m" / "train" / "iter_11.pth").exists()
