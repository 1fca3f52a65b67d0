"""Training: the command, the machine, the judgement; and for real: killed, resumed, repeated."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tasks import train
from tasks.core import checkpoints, paths, torchbuild
from tasks.core.errors import UserError
from tasks.core.trainlog import Record

from .conftest import Project, doit

TINY = Path("recipes/tiny-agent").absolute()
SHORT = f"""
base: {{path: {TINY}/base}}
data: {{path: {TINY}/data}}
train:
  prompt_template: llama3_chat
  max_length: 256
  pack_to_max_length: false
  use_activation_checkpointing: false
  batch_size: 4
  accumulative_counts: 1
  max_iters: 24
  log_interval: 5
  lr: 5e-3
  dtype: float32
  lora: {{r: 8, alpha: 16, dropout: 0}}
  save_steps: 8
  launch: {{threads: 1}}
"""


def record(iteration: int, **values: float) -> Record:
    return Record(iteration, 20, {"lr": 1e-3, "loss": 1.0, **values}, "")


def whole(path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data.pkl", b"")


def test_training_goes_on_from_the_newest_whole_checkpoint(
    project: Project, tmp_path: Path
) -> None:
    recipe = project.recipe("m", SHORT)
    whole(tmp_path / "iter_8.pth")
    whole(tmp_path / "iter_16.pth")
    (tmp_path / "iter_24.pth").write_bytes(b"PK\x03\x04 cut short")

    checkpoints.drop_broken(tmp_path)
    command = train.command(recipe, tmp_path)

    assert {"resume=True", f"load_from={tmp_path}/iter_16.pth"} <= set(command)
    assert not (tmp_path / "iter_24.pth").exists()


def test_training_starts_afresh_in_an_empty_folder(project: Project, tmp_path: Path) -> None:
    command = train.command(project.recipe("m", SHORT), tmp_path)

    assert not any(word.startswith(("resume", "load_from")) for word in command)


@pytest.mark.parametrize(
    ("line", "said"),
    [("dtype: float16", "train.dtype: float16"), ("method: qlora", "train.method: qlora")],
)
def test_what_needs_a_gpu_is_refused_before_anything_starts(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    monkeypatch.setattr(torchbuild, "has_gpu", lambda: False)
    text = SHORT.replace("dtype: float32", line) if "dtype" in line else f"{SHORT}  {line}\n"
    recipe = project.recipe("m", text)

    with pytest.raises(UserError, match=f"{said} needs a GPU"):
        train.run(recipe, tmp_path)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([], "without training a step"),
        ([record(20, loss=float("nan"))], "diverged"),
        ([record(n, lr=1e-9) for n in (5, 10, 15, 20)], "learning rate never rose"),
        ([record(20)], "iter_20.pth is not among the checkpoints that training left .none."),
    ],
)
def test_a_training_that_did_not_learn_is_a_failure(
    project: Project, tmp_path: Path, records: list[Record], said: str
) -> None:
    recipe = project.recipe("m", SHORT)

    with pytest.raises(UserError, match=said):
        train._check(recipe, records, tmp_path, tmp_path / "train.log")


def test_the_last_checkpoint_is_a_target_where_its_number_is_known(project: Project) -> None:
    assert train.task(project.recipe("m", SHORT))["targets"] == ["iter_24.pth"]
    assert train.task(project.recipe("n", f"{SHORT}checkpoint: 8\n"))["targets"] == ["iter_8.pth"]


@pytest.mark.slow
def test_a_killed_training_ends_with_the_bytes_of_an_undisturbed_one(
    tmp_path: Path, xtuner: str
) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "m.yaml").write_text(SHORT)
    recipes = tmp_path / "recipes"
    killed, undisturbed = tmp_path / "killed", tmp_path / "undisturbed"

    kill_after_checkpoint(killed, 8, xtuner, recipes)
    second = doit("train:m", build=killed, recipes=recipes, xtuner=xtuner)
    doit("train:m", build=undisturbed, recipes=recipes, xtuner=xtuner)

    assert second.returncode == 0, second.stderr
    assert "resumed epoch: 0, iter: " in paths_log(killed).read_text()
    for stage in ("convert", "config", "train"):
        own, other = (place / "m" / stage / "manifest.json" for place in (killed, undisturbed))
        assert own.read_bytes() == other.read_bytes(), stage


@pytest.mark.slow
def test_a_crash_of_xtuner_is_a_failure_that_shows_its_last_words(
    tmp_path: Path, xtuner: str
) -> None:
    (tmp_path / "recipes" / "m").mkdir(parents=True)
    (tmp_path / "recipes" / "m.yaml").write_text(f"{SHORT}  template: own.py.j2\n")
    own = paths.ROOT / "templates" / "xtuner_config.py.j2"
    broken = own.read_text().replace("visualizer = None", "visualizer = None\n1 / 0")
    (tmp_path / "recipes" / "m" / "own.py.j2").write_text(broken)

    done = doit("train:m", build=tmp_path / "b", recipes=tmp_path / "recipes", xtuner=xtuner)

    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert "Traceback (most recent call last)" not in done.stdout
    assert not (tmp_path / "b" / "m" / "train").exists()


def kill_after_checkpoint(build: Path, number: int, xtuner: str, recipes: Path) -> None:
    """Start a build, and kill it by SIGKILL when a checkpoint is there; its child dies as well."""
    environ = {
        **os.environ,
        "MODELWRIGHT_BUILD": str(build),
        "MODELWRIGHT_RECIPES": str(recipes),
        "MODELWRIGHT_TOOLCHAIN_XTUNER": xtuner,
    }
    command = [sys.executable, "-m", "doit", "train:m"]
    child = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, cwd=paths.ROOT)
    for _ in range(1200):
        if list(build.glob(f"m/.train-*/iter_{number}.pth")):
            break
        assert child.poll() is None
        time.sleep(0.1)
    time.sleep(0.3)
    child.send_signal(signal.SIGKILL)
    child.wait()
    time.sleep(1)
    trainers = subprocess.run(["pgrep", "-f", f"launch.py train {build}"], capture_output=True)
    assert trainers.stdout == b""


def paths_log(build: Path) -> Path:
    return build / "m" / "logs" / "train.log"


def test_losses_are_kept_without_their_times(tmp_path: Path) -> None:
    (tmp_path / "iter_20.pth").write_bytes(b"")
    (tmp_path / "last_checkpoint").write_text("x")

    train._keep_results([record(10, time=0.3), record(20, grad_norm=0.5)], tmp_path)

    lines = [json.loads(line) for line in (tmp_path / "losses.jsonl").open()]
    assert lines == [
        {"iter": 10, "loss": 1.0, "lr": 1e-3},
        {"iter": 20, "loss": 1.0, "lr": 1e-3, "grad_norm": 0.5},
    ]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["iter_20.pth", "losses.jsonl"]


@pytest.mark.parametrize("launch", ["processes: 2", "nodes: 6", "deepspeed: zero3_offload"])
def test_what_is_not_built_in_is_refused_and_not_done_halfway(
    project: Project, tmp_path: Path, launch: str
) -> None:
    recipe = project.recipe("m", SHORT.replace("threads: 1", launch))

    with pytest.raises(UserError, match=r"train\.launch: .* is not built in yet"):
        train.run(recipe, tmp_path)
