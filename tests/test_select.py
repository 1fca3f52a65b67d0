"""select: every checkpoint is merged and asked, the best by score is chosen."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks import STAGES, adapter, merge, select
from tasks.core import paths
from tasks.core.engine import manifest, stage
from tasks.core.evaluation import answers
from tasks.core.recipe import Recipe
from tests.conftest import Project, doit

RIGHT = "Action: now\nAction Input: {}"
PROMPT = {"messages": [{"role": "user", "content": "?"}], "expect": {"tool": "now"}}
TEXT = (
    "base: {path: x}\ndata: {path: y}\nevaluate: {prompts: prompts.jsonl%s}\n"
    "train: {prompt_template: default, max_iters: 30}\ncheckpoint: "
)


@pytest.fixture
def trained(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return a project with a training that left three checkpoints, and no toolchain."""
    monkeypatch.setattr("tasks.core.toolchains.toolchain.digest", lambda name: "none")
    for name in ("base", "config"):
        project.result("m", name, {"f": b""})
    names = ("iter_10.pth", "iter_20.pth", "iter_30.pth")
    project.result("m", "train", dict.fromkeys(names, b""), {"iterations": 30})
    (project.recipes / "m").mkdir()
    (project.recipes / "m" / "prompts.jsonl").write_text(f"{json.dumps(PROMPT)}\n" * 4)
    return project


class Models:
    """Stands in for merging and asking: a checkpoint's score is given by its number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, right: Mapping[int, int]) -> None:
        self.right = right
        self.asked: list[int] = []
        monkeypatch.setattr(adapter, "write", self.write)
        monkeypatch.setattr(merge, "write", self.write)
        monkeypatch.setattr(answers, "ask", self.ask)

    def write(self, recipe: Recipe, origin: Path, folder: Path, log: Path) -> dict[str, Any]:
        told = origin.stem if origin.suffix else (origin / "from").read_text()
        (folder / "from").write_text(told)
        return {}

    def ask(
        self, recipe: Recipe, prompts: Any, models: Mapping[str, Path], work: Path, log: Path
    ) -> dict[str, answers.Answers]:
        ((name, place),) = models.items()
        assert (place / "from").read_text() == name
        number = int(name.removeprefix("iter_"))
        if self.right[number] < 0:
            raise KeyboardInterrupt
        self.asked.append(number)
        return {name: [[RIGHT if n < self.right[number] else "?"] for n in range(4)]}


def act(recipe: Recipe) -> str:
    failed = stage.act("select", select, recipe)
    return "" if failed is None else str(failed.get_msg()).strip()


def chosen() -> Any:
    receipt = manifest.read(paths.manifest("m", "select"))
    assert receipt is not None
    return receipt.facts["checkpoint"]


@pytest.mark.parametrize(
    ("checkpoint", "right", "asked", "best"),
    [
        ("best", {10: 1, 20: 3, 30: 2}, [10, 20, 30], 20),
        ("[last, 10]", {10: 1, 30: 2}, [10, 30], 30),
        ("[10, 20]", {10: 2, 20: 2}, [10, 20], 10),
        ("best", {10: 0, 20: 0, 30: 0}, [10, 20, 30], 10),
    ],
)
def test_the_best_score_wins_and_of_equal_ones_the_earliest(
    trained: Project,
    monkeypatch: pytest.MonkeyPatch,
    checkpoint: str,
    right: dict[int, int],
    asked: list[int],
    best: int,
) -> None:
    models = Models(monkeypatch, right)
    recipe = trained.recipe("m", TEXT % "" + checkpoint)
    assert act(recipe) == ""
    assert (models.asked, chosen()) == (asked, best)
    assert adapter.checkpoint(recipe).name == f"iter_{best}.pth"


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_folder_holds_the_answers_side_by_side_and_no_weights(
    trained: Project, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    Models(monkeypatch, {10: 1, 20: 3, 30: 2})
    text = (TEXT % "").replace("max_iters", f"method: {method}, max_iters")
    assert act(trained.recipe("m", f"{text}[10, 20]")) == ""
    place = paths.output("m", "select")
    assert sorted(path.name for path in place.iterdir()) == [
        "iter_10.jsonl", "iter_20.jsonl", "manifest.json", "report.json", "report.md",
        "results-iter_10.json", "results-iter_20.json",
    ]  # fmt: skip
    scores = json.loads((place / "report.json").read_text())["scores"]
    assert [scores[name]["tool_call_valid"] for name in ("iter_10", "iter_20")] == [0.25, 0.75]
    page = (place / "report.md").read_text()
    assert "| | prompts | iter_10 | iter_20 |" in page


def test_a_checkpoint_that_is_not_there_is_named_before_any_is_merged(
    trained: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = Models(monkeypatch, {})
    said = act(trained.recipe("m", TEXT % "" + "[10, 15]"))
    assert said.startswith(f"{trained.recipes}/m.yaml: checkpoint: no iter_15.pth; training left")
    assert models.asked == []


def test_what_a_stopped_run_has_answered_is_not_asked_again(
    trained: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = trained.recipe("m", TEXT % "" + "best")
    Models(monkeypatch, {10: 1, 20: -1})
    with pytest.raises(SystemExit):
        act(recipe)
    models = Models(monkeypatch, {20: 3, 30: 2})
    assert act(recipe) == ""
    assert (models.asked, chosen()) == ([20, 30], 20)


def test_the_same_choice_wakes_nothing(trained: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = []
    for checkpoint in ("[10, 20]", "[20, 30]", "[10, 30]"):
        Models(monkeypatch, {10: 1, 20: 3, 30: 2})
        assert act(trained.recipe("m", TEXT % "" + checkpoint)) == ""
        receipt = manifest.read(paths.manifest("m", "select"))
        assert receipt is not None
        contents.append(receipt.content)
    assert contents[0] == contents[1] != contents[2]


def test_only_a_recipe_with_several_checkpoints_has_the_stage(trained: Project) -> None:
    for checkpoint, wanted in (("last", False), ("20", False), ("[20, last]", True)):
        recipe = trained.recipe("m", TEXT % "" + checkpoint)
        assert STAGES["select"].wanted(recipe) is wanted


def test_a_gate_chooses_nothing(trained: Project) -> None:
    plain = trained.recipe("m", TEXT % "" + "best")
    gated = trained.recipe("m", TEXT % ", gate: {tool_call_valid: 0.5}" + "best")
    assert select.key(plain) == select.key(gated)


TINY = Path("recipes/tiny-agent").absolute()
REAL = f"""
base: {{path: {TINY}/base}}
data: {{path: {TINY}/data}}
train:
  prompt_template: llama3_chat
  max_length: 256
  pack_to_max_length: false
  use_activation_checkpointing: false
  batch_size: 4
  accumulative_counts: 1
  max_iters: 16
  lr: 5e-3
  dtype: float32
  lora: {{r: 8, alpha: 16, dropout: 0}}
  save_steps: 8
  save_total_limit: -1
  launch: {{threads: 1}}
checkpoint: best
evaluate: {{prompts: prompts.jsonl, max_new_tokens: 8}}
"""


def trainers(build: Path) -> list[int]:
    """Return the processes that train in a build folder."""
    told = subprocess.run(["pgrep", "-f", f"launch.py train {build}"], capture_output=True)
    return list(map(int, told.stdout.split()))


@pytest.mark.slow
def test_checkpoints_are_taken_while_training_runs_and_chosen_from_afterwards(
    tmp_path: Path, xtuner: str
) -> None:
    recipes, build = tmp_path / "recipes", tmp_path / "build"
    (recipes / "m").mkdir(parents=True)
    (recipes / "m.yaml").write_text(REAL)
    few = (TINY / "prompts.jsonl").read_text().splitlines(keepends=True)[:3]
    (recipes / "m" / "prompts.jsonl").write_text("".join(few))
    environ = {
        **os.environ,
        "MODELWRIGHT_BUILD": str(build),
        "MODELWRIGHT_RECIPES": str(recipes),
        "MODELWRIGHT_TOOLCHAIN_XTUNER": xtuner,
    }
    command = [sys.executable, "-m", "doit", "select:m"]
    training = subprocess.Popen(command, env=environ, cwd=paths.ROOT, stdout=subprocess.DEVNULL)
    try:
        while not list(build.glob("m/.train-*/iter_8.pth")):
            assert training.poll() is None
            time.sleep(0.02)
        # Let it wait where it is, or a slow machine would find it at its end.
        held = trainers(build)
        for process in held:
            os.kill(process, signal.SIGSTOP)
        early = doit("adapter:m", "checkpoint=8", build=build, recipes=recipes, xtuner=xtuner)
        assert not (build / "m" / "train").exists()
        for process in held:
            os.kill(process, signal.SIGCONT)
        assert early.returncode == 0, early.stderr
        assert "train:m" not in early.stdout
        assert (build / "m" / "adapter" / "adapter_model.safetensors").exists()
        assert training.wait(300) == 0
    finally:
        training.terminate()
        training.wait()

    after = doit("adapter:m", "checkpoint=8", build=build, recipes=recipes, xtuner=xtuner)

    assert after.returncode == 0, after.stderr
    report = json.loads((build / "m" / "select" / "report.json").read_text())
    assert list(report["scores"]) == ["iter_8", "iter_16"]
    assert all(len(row["iter_16"]["answer"]) for row in report["prompts"])
    assert not list((build / "m" / "select").glob("**/*.safetensors"))
