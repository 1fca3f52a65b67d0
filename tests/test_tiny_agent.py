"""The default recipe, whole and for real: xtuner on the CPU, from a base and data to an image."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from tasks.core.engine import manifest
from tasks.core.engine.manifest import Manifest

from .conftest import doit

STAGES = "base data convert config train adapter merge evaluate dockerfile image".split()


@pytest.fixture
def built(tiny: Path) -> Path:
    """Return the default recipe's folder, built."""
    return tiny


def receipt(built: Path, stage: str) -> Manifest:
    found = manifest.read(built / stage / manifest.NAME)
    assert found is not None, stage
    return found


@pytest.mark.slow
def test_every_local_stage_leaves_a_manifest_that_its_files_match(built: Path) -> None:
    for stage in STAGES:
        assert manifest.intact(receipt(built, stage), built / stage)


@pytest.mark.slow
def test_tuning_turns_no_valid_call_into_valid_calls(built: Path) -> None:
    scores = json.loads((built / "evaluate" / "report.json").read_text())["scores"]

    assert scores["base"]["prompts"] == scores["tuned"]["prompts"] == 200
    assert scores["base"]["tool_call_valid"] <= 0.02
    assert scores["tuned"]["tool_call_valid"] >= 0.9


@pytest.mark.slow
def test_what_training_never_saw_at_all_is_reported_apart(built: Path) -> None:
    apart = json.loads((built / "evaluate" / "report.json").read_text())["scores"]["tuned"]["apart"]

    assert set(apart) == {"unseen_phrasing", "unseen_tool", "no_tool"}


@pytest.mark.slow
def test_the_loss_fell_and_the_learning_rate_rose_and_fell(built: Path) -> None:
    records = [json.loads(line) for line in (built / "train" / "losses.jsonl").open()]
    rates = [record["lr"] for record in records]

    assert records[-1]["loss"] < records[0]["loss"] / 4
    assert max(rates) > 100 * rates[-1]


@pytest.mark.slow
def test_the_image_holds_the_merged_model_and_nothing_else(built: Path) -> None:
    layout = built / "image"
    index = json.loads((layout / "index.json").read_text())
    image = json.loads(blob(layout, index["manifests"][0]["digest"]).read_bytes())
    held = {}
    for layer in image["layers"]:
        with tarfile.open(blob(layout, layer["digest"])) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file:
                    held[member.name] = file.read()

    model = {file.path: (built / "merge" / file.path) for file in receipt(built, "merge").files}
    assert {f"data/{path}": file.read_bytes() for path, file in model.items()} == held


@pytest.mark.slow
def test_a_second_build_runs_nothing(built: Path, xtuner: str) -> None:
    before = {stage: (built / stage / manifest.NAME).stat().st_mtime_ns for stage in STAGES}

    done = doit(build=built.parent, xtuner=xtuner)

    assert done.returncode == 0
    assert all(line.startswith("-- ") for line in done.stdout.splitlines()), done.stdout
    assert before == {s: (built / s / manifest.NAME).stat().st_mtime_ns for s in STAGES}


@pytest.mark.slow
def test_a_new_gate_only_evaluates_again_and_fails_with_the_worst_examples(
    built: Path, xtuner: str, tmp_path: Path
) -> None:
    few = Path("recipes/tiny-agent/prompts.jsonl").read_text().splitlines()[0]
    wrong = few.replace('"arguments": {', '"arguments": {"never": "asked", ')
    recipes = gated(tmp_path, "1.0", f"{wrong}\n")

    done = doit("evaluate:tiny-agent", build=built.parent, recipes=recipes, xtuner=xtuner)

    assert done.returncode == 1
    assert "-- merge:tiny-agent" in done.stdout
    assert "evaluate.gate.tool_call_valid: 0.0% of the answers are valid" in done.stderr
    assert "never" in done.stderr
    assert (built / "evaluate" / "report.json").exists()


@pytest.mark.slow
def test_a_gate_alone_is_judged_on_the_answers_that_there_are(
    built: Path, xtuner: str, tmp_path: Path
) -> None:
    log = built / "logs" / "evaluate.log"
    asked = log.stat().st_mtime_ns
    recipes = gated(tmp_path, "0.5", Path("recipes/tiny-agent/prompts.jsonl").read_text())

    done = doit("evaluate:tiny-agent", build=built.parent, recipes=recipes, xtuner=xtuner)

    assert done.returncode == 0, done.stderr
    assert ".  evaluate:tiny-agent" in done.stdout
    assert receipt(built, "evaluate").inputs["recipe"]["evaluate.gate.tool_call_valid"] == 0.5
    assert log.stat().st_mtime_ns == asked


def gated(folder: Path, gate: str, prompts: str) -> Path:
    """Write the default recipe with another gate and other prompts; return where."""
    recipes, own = folder / "recipes", Path("recipes").absolute()
    (recipes / "tiny-agent").mkdir(parents=True)
    text = (own / "tiny-agent.yaml").read_text().replace("0.9", gate)
    text = text.replace("path: base", f"path: {own}/tiny-agent/base")
    text = text.replace("path: data", f"path: {own}/tiny-agent/data")
    (recipes / "tiny-agent.yaml").write_text(text)
    (recipes / "tiny-agent" / "prompts.jsonl").write_text(prompts)
    return recipes


def blob(layout: Path, digest: str) -> Path:
    return layout / "blobs" / digest.replace(":", "/")
