"""select: every checkpoint is merged and asked, the best by score is chosen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks import STAGES, adapter, merge, select
from tasks.core import paths
from tasks.core.engine import manifest, stage
from tasks.core.evaluation import answers
from tasks.core.recipe import Recipe
from tests.conftest import Project
from tests.training import RECIPE, TINY, Bench, halted, wait

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
    assert said.startswith(f"{trained.recipes}/m.yaml: checkpoint: iter_15.pth is not among")
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


@pytest.mark.slow
def test_checkpoints_are_taken_while_training_runs_and_chosen_from_afterwards(
    tmp_path: Path, xtuner: str
) -> None:
    bench = Bench(tmp_path, xtuner)
    text = RECIPE.replace("max_iters: 24", "max_iters: 16")
    evaluate = "evaluate: {prompts: prompts.jsonl, max_new_tokens: 8}"
    bench.write("m", f"{text}checkpoint: best\n{evaluate}\n")
    (bench.recipes / "m").mkdir()
    few = (TINY / "prompts.jsonl").read_text().splitlines(keepends=True)[:3]
    (bench.recipes / "m" / "prompts.jsonl").write_text("".join(few))
    made = bench.build / "m"

    with bench.building("select:m") as training:
        wait(lambda: bench.has("m", 8)() or training.poll() is not None)
        with halted(bench.build):
            early = bench.doit("adapter:m", "checkpoint=8")
            assert not (made / "train").exists()
        assert early.returncode == 0, early.stderr
        assert "train:m" not in early.stdout
        assert (made / "adapter" / "adapter_model.safetensors").exists()
        said = training.communicate(timeout=300)[0]
    assert training.returncode == 0, said
    after = bench.doit("adapter:m", "checkpoint=8")

    assert after.returncode == 0, after.stderr
    report = json.loads((made / "select" / "report.json").read_text())
    assert list(report["scores"]) == ["iter_8", "iter_16"]
    assert all(len(row["iter_16"]["answer"]) for row in report["prompts"])
    assert not list((made / "select").glob("**/*.safetensors"))
