"""card: README.md with the Hub's header, beside the weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from tasks import card, dockerfile, upload
from tasks.core import paths
from tasks.core.engine import manifest, stage
from tasks.core.model import modelfiles
from tasks.core.recipe import Recipe
from tests.conftest import Project

RECIPE = """
base: {hub: meta-llama/Meta-Llama-3-8B-Instruct}
data: {hub: internlm/Agent-FLAN}
train: {prompt_template: llama3_chat, max_iters: 200, lr: 2e-4}
evaluate: {prompts: prompts.jsonl}
upload: {bucket: llms}
card: {license: llama3, language: [en, zh], tags: [agent], text: about.md}
"""
SCORES = {
    "prompts": 200,
    "tool_call_valid": 0.97,
    "tool_called": 0.99,
    "tool_right": 0.98,
    "arguments_json": 0.97,
    "by_tool": {"mail": 0.97},
    "apart": {},
}
ANSWER = "Action: mail\n```\n# not a heading\n---"
FACTS: dict[str, dict[str, Any]] = {
    "base": {"revision": "0" * 40, "architecture": "LlamaForCausalLM"},
    "data": {"revision": "1" * 40},
    "convert": {"rows": 34000, "turns": 60000},
    "train": {"iterations": 200, "checkpoint": 200, "loss": 0.3},
    "merge": {"tensors": 291, "parameters": 8_030_261_248, "dtype": "BF16"},
    "evaluate": {},
}


def results(project: Project, facts: dict[str, dict[str, Any]] = FACTS) -> None:
    prompt = {
        "messages": [{"role": "user", "content": "Write to Ann."}],
        "expect": {"tool": "mail", "arguments": {}},
        "group": "",
        "base": {"answer": "Hello Ann!", "valid": False},
        "tuned": {"answer": ANSWER, "valid": True},
    }
    report = {
        "scores": {"base": {**SCORES, "tool_call_valid": 0.0}, "tuned": SCORES},
        "prompts": [prompt],
    }
    for name, told in facts.items():
        files = {"report.json": json.dumps(report).encode()} if name == "evaluate" else {}
        project.result("m", name, {"config.json": b"{}", **files}, told)


@pytest.fixture
def recipe(project: Project) -> Recipe:
    (project.recipes / "m").mkdir()
    (project.recipes / "m" / "about.md").write_text("It calls **tools**.\n")
    results(project)
    return project.recipe("m", RECIPE)


def build(recipe: Recipe) -> str:
    assert stage.act("card", card, recipe) is None
    assert card.lay_beside(recipe) is None
    return (paths.output("m", "card") / "README.md").read_text(encoding="utf-8")


def test_the_hub_reads_the_header(recipe: Recipe) -> None:
    found: Any = ModelCard(build(recipe)).data

    assert found.base_model == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert found.datasets == ["internlm/Agent-FLAN"]
    assert found.license == "llama3"
    assert found.language == ["en", "zh"]
    assert found.pipeline_tag == "text-generation"
    assert {"modelwright", "xtuner", "lora", "agent"} <= set(found.tags or [])
    assert {each.metric_type: each.metric_value for each in found.eval_results or []} == {
        "tool_call_valid": 0.97,
        "tool_right": 0.98,
    }


def test_the_card_tells_of_recipe_data_and_evaluation(recipe: Recipe) -> None:
    text = build(recipe)

    for told in (
        "It calls **tools**.",
        f"| Base | meta-llama/Meta-Llama-3-8B-Instruct at `{'0' * 40}` |",
        "| Parameters | 8,030,261,248 |",
        "34,000 rows with 60,000 answers.",
        "| lr | 0.0002 |",
        "| pack_to_max_length | yes |",
        "| valid call: right tool, right arguments | 0.0% | 97.0% |",
        "    Hello Ann!",
    ):
        assert told in text


def test_an_answer_stays_a_block_of_code(recipe: Recipe) -> None:
    text = build(recipe)

    assert "\n".join(f"    {line}" for line in ANSWER.splitlines()) in text
    assert "\n# not a heading" not in text


def test_the_card_is_laid_beside_the_weights_and_put_back(recipe: Recipe) -> None:
    assert card.drifted(recipe)
    text = build(recipe)
    beside = paths.output("m", "merge") / "README.md"

    assert beside.read_text(encoding="utf-8") == text
    assert not card.drifted(recipe)
    beside.write_text("mine")
    assert card.drifted(recipe)


def test_the_merge_does_not_know_the_card(recipe: Recipe) -> None:
    before = manifest.read(paths.manifest("m", "merge"))

    build(recipe)

    after = manifest.read(paths.manifest("m", "merge"))
    assert after == before
    assert after is not None
    assert manifest.intact(after, paths.output("m", "merge"))


def test_an_image_goes_without_the_card_and_an_upload_with_it(recipe: Recipe) -> None:
    build(recipe)

    assert modelfiles.outgoing(paths.output("m", "merge")) == ["config.json"]
    assert modelfiles.CARD in dockerfile.left_out(recipe)
    assert [file.name for file in upload.outgoing(recipe)] == ["m/config.json", "m/README.md"]
    assert str(paths.manifest("m", "card")) in map(str, upload.task(recipe)["file_dep"])


def test_a_base_keeps_its_own_card(project: Project) -> None:
    recipe = project.recipe("own", "base: {path: base}\n")
    folder = project.result("own", "base", {"README.md": b"# Its own\n", "config.json": b"{}"})

    assert not card.wanted(recipe)
    assert modelfiles.outgoing(folder) == ["README.md", "config.json"]
    assert modelfiles.CARD not in dockerfile.left_out(recipe)


def test_folders_of_this_machine_are_not_told(project: Project, tmp_path: Path) -> None:
    results(project, {name: FACTS[name] for name in ("base", "merge")})
    recipe = project.recipe("m", f"base: {{path: {tmp_path}/b}}\nadapter: {{path: {tmp_path}/a}}\n")

    text = build(recipe)

    assert str(tmp_path) not in text + paths.manifest("m", "card").read_text()
    assert "base_model" not in text
    header: Any = ModelCard(text).data
    assert header.tags == ["modelwright"]


@pytest.mark.parametrize("old", ["lr: 2e-4", "license: llama3", "It calls"])
def test_what_the_card_tells_makes_a_new_one(project: Project, recipe: Recipe, old: str) -> None:
    build(recipe)
    assert stage.is_fresh("card", card, recipe)

    for path in (recipe.file, project.recipes / "m" / "about.md"):
        path.write_text(
            path.read_text().replace(old, f"{old[:-1]}x" if old != "lr: 2e-4" else "lr: 3e-4")
        )

    assert not stage.is_fresh("card", card, project.recipe("m", recipe.file.read_text()))


def test_a_text_that_is_not_there_is_an_error(project: Project, recipe: Recipe) -> None:
    (project.recipes / "m" / "about.md").unlink()

    failed = stage.act("card", card, recipe)

    assert failed is not None
    assert "about.md: no such file" in str(failed.get_msg())
