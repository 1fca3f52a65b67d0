"""The registry: every stage is listed, in order, with its help; every recipe that ships loads."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import tasks
from tasks import ON_REQUEST, STAGES, config, dockerfile
from tasks.core import paths, recipe
from tasks.core.engine import pipeline
from tasks.core.recipe import Recipe
from tests.conftest import Project

ORDER = (
    "base data convert config train select adapter merge evaluate card archive dockerfile image "
    "push upload onboard compose serve gateway app report"
).split()
RECIPES = {path.stem: recipe.read(path) for path in sorted(Path("recipes").glob("*.yaml"))}
HEAVY = {
    "accelerate", "datasets", "docker", "httpx", "huggingface_hub", "jinja2", "minio", "mmengine",
    "numpy", "packaging", "peft", "pip", "requests", "rich", "safetensors", "ssl", "torch",
    "transformers", "urllib3", "xtuner",
}  # fmt: skip
# What only a run takes; each costs who lists a hundred models some milliseconds.
LATER = {
    "concurrent.futures", "logging", "pydantic's schema", "statistics", "tarfile",
    "tasks.core.catalog",
    "tasks.core.evaluation.evaluation", "tasks.core.image.oci", "tasks.core.kubernetes",
    "tasks.core.launching.local", "tasks.core.model.lora", "tasks.core.model.weights",
    "tasks.core.preset", "tasks.core.report", "tasks.core.serving.serving",
    "tasks.core.training.trainlog", "tasks.core.vllm", "tasks.core.xinference",
    "yaml",
}  # fmt: skip
LOOK = """
import sys
from doit.doit_cmd import DoitMain
DoitMain().run(sys.argv[1:])
from tasks.core.recipe import Recipe
made = ["pydantic's schema"] if Recipe.__pydantic_complete__ else []
print(*sys.modules, *made, sep="\\n", file=sys.stderr)
"""


def modules() -> list[Path]:
    return [path for path in sorted(Path("tasks").glob("*.py")) if path.stem != "__init__"]


def test_every_module_is_a_stage_and_every_stage_a_module() -> None:
    assert {path.stem for path in modules()} == set(STAGES)
    assert all(STAGES[name] is getattr(tasks, name) for name in STAGES)


def test_core_imports_no_stage() -> None:
    """But for the lists of all and of the outward ones, which three commands need."""
    found = []
    for path in sorted(Path("tasks/core").rglob("*.py")):
        above = r"\." * len(path.relative_to("tasks").parts)
        stage = rf"^ *(?:from|import) (?:tasks(?!\.core)\b|{above}(?!core)[ \w]).*"
        found += [(path.name, line) for line in re.findall(stage, path.read_text("utf-8"), re.M)]
    outward = ("clean.py", "    from tasks import OUTWARD")
    assert found == [outward, *[("command.py", "    from tasks import STAGES")] * 2]


def test_stages_come_in_the_order_of_the_design() -> None:
    assert list(STAGES) == [name for name in ORDER if name in STAGES]
    assert set(STAGES) <= set(ORDER)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_s_first_line_is_its_help(name: str) -> None:
    first, *rest = (STAGES[name].__doc__ or "").splitlines()
    assert first.endswith(".")
    assert first[0].isupper()
    assert len(first) <= 80
    assert not rest or rest[0] == ""


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_has_its_functions_in_one_order(name: str) -> None:
    tree = ast.parse(Path("tasks", f"{name}.py").read_text(encoding="utf-8"))
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    shared = [found for found in functions if found in ("wanted", "task", "key", "run")]
    assert shared == ["wanted", "task", "key", "run"]
    assert STAGES[name].VERSION >= 1


def test_no_stage_but_report_is_a_command_of_doit() -> None:
    from doit.doit_cmd import DoitMain

    commands = set(DoitMain().get_cmds())
    # `doit report` writes every page as things are; `doit report:m` is the task.
    assert commands & set(STAGES) == {"report"}
    assert commands <= set(pipeline.COMMANDS)


def test_what_runs_on_request_is_a_stage() -> None:
    assert set(STAGES) > ON_REQUEST


def test_dodo_stays_under_forty_lines() -> None:
    assert len(Path("dodo.py").read_text(encoding="utf-8").splitlines()) < 40


@pytest.mark.parametrize("path", [Path("dodo.py"), *modules()], ids=lambda path: path.stem)
def test_no_stage_imports_anything_heavy_where_it_is_listed(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {
        name.split(".")[0]
        for node in imported
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
            if node.level
            else [node.module or ""]
        )
    }
    assert not names & HEAVY
    assert names <= set(sys.stdlib_module_names) | {"tasks", "doit"}


@pytest.mark.parametrize("words", ["list --all", "plan m", "why train:m"])
def test_a_look_imports_nothing_that_only_a_run_takes(project: Project, words: str) -> None:
    """What the modules of core import counts too; the recipe was read before."""
    text = Path("recipes/tiny-agent.yaml").read_text(encoding="utf-8")
    project.recipe("m", text.replace("{path: base}", "{path: .}"))
    (project.recipes / "m").mkdir()
    pipeline.recipes(STAGES)
    command = [sys.executable, "-c", LOOK, *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "train:m" in done.stdout
    imported = set(done.stderr.splitlines())
    assert "tasks.train" in imported
    needless = imported & LATER | {name.partition(".")[0] for name in imported} & HEAVY
    assert not needless


def test_the_recipes_that_the_design_names_are_there() -> None:
    assert {"tiny-agent", "llama3-8b-agentflan", "chatglm3-6b"} <= set(RECIPES)
    bases = " ".join(found.base.label for found in RECIPES.values()).lower()
    assert all(word in bases for word in ("qwen2-7b", "internlm2", "mistral-7b"))


@pytest.mark.parametrize("found", RECIPES.values(), ids=list(RECIPES))
def test_every_recipe_renders_a_config_and_a_dockerfile(found: Recipe, tmp_path: Path) -> None:
    rendered = [stage for stage in (config, dockerfile) if stage.wanted(found)]
    assert rendered
    for stage in rendered:
        folder = tmp_path / stage.__name__
        folder.mkdir()
        stage.run(found, folder)
        assert any(path.stat().st_size for path in folder.iterdir())


@pytest.mark.parametrize("found", RECIPES.values(), ids=list(RECIPES))
def test_every_recipe_s_tasks_name_files_of_stages_that_it_has(found: Recipe) -> None:
    wanted = [name for name, stage in STAGES.items() if stage.wanted(found)]
    for name in wanted:
        for path in map(Path, STAGES[name].task(found).get("file_dep", ())):
            before = path.parent.name
            is_receipt = path == paths.manifest(found.name, before)
            assert not is_receipt or wanted.index(before) < wanted.index(name)
            assert is_receipt or path.is_file()


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("tiny-agent", "base data convert config train adapter merge evaluate dockerfile image"),
        ("chatglm3-6b", "base dockerfile image onboard"),
    ],
)  # fmt: skip
def test_a_recipe_has_only_the_stages_that_its_keys_ask_for(name: str, wanted: str) -> None:
    found = {stage for stage, module in STAGES.items() if module.wanted(RECIPES[name])}
    assert set(wanted.split()) <= found
    if RECIPES[name].train is None:
        assert not found & {"data", "convert", "config", "train", "adapter", "merge"}
