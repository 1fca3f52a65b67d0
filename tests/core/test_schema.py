"""recipes/README.md and recipes/schema.json against the code: every key, default and stage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import STAGES, config
from tasks.core import catalog, schema
from tasks.core.recipe import Recipe
from tasks.core.sources import source
from tests.conftest import Project

# A recipe with every part, and for each of its keys another value.
FULL = """
base: {hub: a/b, revision: main, architecture: LlamaForCausalLM}
data: {hub: c/d, revision: main}
train: {prompt_template: llama3_chat, max_iters: 100, dtype: float32, evaluation_inputs: [Hello]}
checkpoint: 100
evaluate: {prompts: prompts.jsonl}
image: {base: scratch, repository: some/where}
upload: {bucket: llms}
onboard: {mount: /root/llms/full}
serve: {name: full}
gateway: {group: default}
app: {fastgpt: {maxContext: 4000}}
"""
OTHER: Mapping[str, Any] = {
    "checkpoint": 50,
    "data.format": "openai",
    "train.max_epochs": 3,
    "train.max_iters": 200,
    "image.layout": False,
    "train.prompt_template": "qwen_chat",
    "train.optim_type": "SGD",
    "train.betas": [0.8, 0.9],
    "train.dtype": "bfloat16",
    "train.template": "own.py.j2",
    "train.method": "full",
    "train.preset": "auto",
    "train.lora.bias": "all",
    "train.lora.target_modules": ["q_proj"],
    "train.launch.deepspeed": "zero2",
    "train.evaluation_inputs": ["Bye"],
    "train.evaluation_system": "Be kind.",
    "train.evaluation_freq": 7,
    "merge.shard_size": "1GB",
    "merge.with": "xtuner",
    "evaluate.prompts": "others.jsonl",
    "evaluate.gate.tool_call_valid": 0.5,
    "evaluate.served": {"tuned": "m"},
    "image.base": "oci:base",
    "image.repository": "else/where",
    "image.pip": ["tiktoken"],
    "image.builder": "docker",
    "image.build.args": {"A": "b"},
    "image.build.pull": "always",
    "image.build.network": "host",
    "image.serve": "adapter",
    "image.entrypoint": ["true"],
    "image.env": {"A": "b"},
    "image.labels": {"a.b": "c"},
    "image.python": "3.12",
    "image.attest": ["sbom"],
    "onboard.mount": "/elsewhere",
    "base.architecture": "Qwen2ForCausalLM",
    "serve.by": "vllm",
    "serve.engine": "vllm",
    "serve.weights": "adapter",
    "serve.context_length": 512,
    "serve.size": "7",
    "serve.format": "awq",
    "serve.gpus": 2,
    "serve.languages": ["zh"],
    "serve.tool_parser": "qwen",
    "app.fastgpt.defaultConfig": {"temperature": 1},
    "app.fastgpt.vision": True,
    "app.fastgpt.toolChoice": True,
}
# Sources are told by what they hold, wherever that lies: these keys lead there, and reach no key.
SOURCES = ("hub", "git", "modelscope", "http", "path", "revision", "digest", "allow", "ignore")


def other(key: str, default: Any) -> Any:
    if key in OTHER:
        return OTHER[key]
    if default == ():
        return ["else"]
    if isinstance(default, bool):
        return not default
    if isinstance(default, float):
        return default / 2 if default else 0.5
    if isinstance(default, int):
        return default + 1
    if default is None and key.endswith(
        ("priority", "maxContext", "maxResponse", "quoteMaxToken", "threads", "cpu", "memory")
    ):
        return 3
    return "else"


def put(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, last = key.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[last] = value


def identities(recipe: Recipe) -> dict[str, Any]:
    """Return what each stage's key has of the recipe; what the config means is training's."""
    found: dict[str, Any] = {}
    for name, stage in STAGES.items():
        if not stage.wanted(recipe):
            found[name] = None
            continue
        found[name] = stage.key(recipe)
        if "config" in {Path(p).parent.name for p in stage.task(recipe).get("file_dep", ())}:
            found[name] = {**found[name], "config": config.forecast(recipe)}
        if name == "evaluate":
            found[name]["prompts"] = recipe.evaluate and recipe.evaluate.prompts
    return found


@pytest.fixture
def world(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in which nothing outside the recipe is asked."""
    monkeypatch.setattr(source, "key", lambda recipe, source, at: {})
    monkeypatch.setattr(catalog, "context_length", lambda recipe: None)
    (project.recipes / "full").mkdir()
    template = Path("templates/xtuner_config.py.j2").read_text() + "\nown = True\n"
    (project.recipes / "full" / "own.py.j2").write_text(template)
    base = project.recipes / "full" / "base"
    base.mkdir()
    (base / "index.json").write_text("{}")
    return project


def reach(project: Project, key: str, value: Any) -> set[str]:
    tree = yaml.safe_load(FULL)
    before = identities(project.recipe("full", yaml.safe_dump(tree)))
    put(tree, key, value)
    if key == "train.max_epochs":
        del tree["train"]["max_iters"]
    after = identities(project.recipe("full", yaml.safe_dump(tree)))
    return {name for name in before if before[name] != after[name]}


def test_every_key_has_a_row_in_the_readme_with_its_default() -> None:
    told = {key: row["default"] for key, row in schema.rows().items()}

    assert told == {key: schema.spelling(default) for key, default in schema.key_paths()}


def test_the_readme_says_which_stages_each_key_reaches(world: Project) -> None:
    wrong = {}
    for key, default in schema.key_paths():
        part, _, name = key.partition(".")
        if part == "adapter" or (part in ("base", "data") and name in SOURCES):
            continue
        told = {word for word in schema.rows()[key]["stages"].split(", ") if word in STAGES}
        found = reach(world, key, other(key, default))
        if told != found:
            wrong[key] = (sorted(told), sorted(found))

    assert wrong == {}


@pytest.mark.parametrize(
    "key", ["dataloader_num_workers", "log_interval", "evaluation_inputs", "evaluation_freq"]
)
def test_what_is_only_watched_while_training_trains_nothing(world: Project, key: str) -> None:
    default = dict(schema.key_paths())[f"train.{key}"]

    assert reach(world, f"train.{key}", other(f"train.{key}", default)) == {"config"}


def test_a_comment_or_another_order_reaches_nothing(world: Project) -> None:
    lines = FULL.strip().splitlines()

    before = identities(world.recipe("full", FULL))
    after = identities(world.recipe("full", "# why\n" + "\n".join(reversed(lines)) + "  # end\n"))

    assert before == after


def test_the_schema_is_the_one_that_the_code_makes() -> None:
    assert json.loads(schema.SCHEMA.read_text(encoding="utf-8")) == schema.schema()


def test_every_recipe_tells_editors_where_the_schema_is() -> None:
    for path in Path("recipes").glob("*.yaml"):
        first = path.read_text(encoding="utf-8").splitlines()[0]
        assert first == "# yaml-language-server: $schema=schema.json", path
