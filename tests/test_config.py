"""config: one template says every value of the recipe, and nothing that it does not say."""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from tasks import config, train
from tasks.core import recipe as recipes
from tasks.core import render, settings
from tasks.core.engine import stage
from tasks.core.preset import choice
from tasks.core.recipe import Recipe
from tasks.core.toolchains import torchbuild
from tests.conftest import Project, doit

TRAIN: dict[str, Any] = {"prompt_template": "llama3_chat", "max_iters": 100}


def recipe(train: dict[str, Any] | None = None, **base: Any) -> Recipe:
    """Return a recipe that trains."""
    values: Any = {"base": {"path": "b", **base}, "train": {**TRAIN, **(train or {})}}
    return Recipe(**values, name="m", file=Path("recipes/m.yaml"))


def rendered(found: Recipe) -> str:
    return render.text(config.TEMPLATE, **config.variables(found))


def value(text: str, name: str) -> Any:
    """Return the literal that a config gives a name."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return ast.literal_eval(node.value)
    raise KeyError(name)


def epochs(**more: Any) -> dict[str, Any]:
    return {"max_iters": None, "max_epochs": 3, **more}


@pytest.mark.parametrize(
    ("train", "said"),
    [
        ({}, "lora=dict("),
        ({"lora": {"r": 7, "alpha": 9, "dropout": 0.25}}, "r=7,"),
        ({"lora": {"r": 7, "alpha": 9, "dropout": 0.25}}, "lora_alpha=9,"),
        ({"lora": {"r": 7, "alpha": 9, "dropout": 0.25}}, "lora_dropout=0.25,"),
        ({"lora": {"target_modules": ["q_proj"]}}, "target_modules=['q_proj'],"),
        ({"method": "qlora"}, "load_in_4bit=True"),
        ({"prompt_template": "internlm2_chat"}, "PROMPT_TEMPLATE.internlm2_chat"),
        ({"max_length": 1664}, "max_length = 1664"),
        ({"pack_to_max_length": False}, "pack_to_max_length = False"),
        ({"shuffle_before_pack": False}, "shuffle_before_pack=False"),
        ({"use_varlen_attn": True}, "use_varlen_attn = True"),
        ({"use_activation_checkpointing": False}, "use_activation_checkpointing = False"),
        ({"sequence_parallel_size": 2}, "sequence_parallel_size = 2"),
        ({"batch_size": 3}, "batch_size = 3"),
        ({"accumulative_counts": 5}, "accumulative_counts = 5"),
        ({"dataloader_num_workers": 4}, "dataloader_num_workers = 4"),
        ({}, "max_iters = 100"),
        (epochs(), "max_epochs = 3"),
        ({"optim_type": "SGD"}, "optim_type = SGD"),
        ({"lr": 5e-5}, "lr = 5e-05"),
        ({"betas": [0.8, 0.95]}, "betas = (0.8, 0.95)"),
        ({"weight_decay": 0.1}, "weight_decay = 0.1"),
        ({"max_norm": 0.5}, "max_norm = 0.5"),
        ({"warmup_ratio": 0.1}, "warmup_iters = 10"),
        ({"dtype": "bfloat16"}, 'dtype="bfloat16"'),
        ({"dtype": "float16"}, 'loss_scale="dynamic"'),
        ({"dtype": "float32"}, "type=OptimWrapper"),
        # What is trained itself is kept in float32, by us or by DeepSpeed.
        ({"method": "full"}, "torch_dtype=torch.float32"),
        ({"method": "full", "dtype": "bfloat16"}, "torch_dtype=torch.float32"),
        (
            {"method": "full", "dtype": "bfloat16", "launch": {"deepspeed": "zero2"}},
            "torch_dtype=torch.bfloat16",
        ),
        ({"seed": 7, "deterministic": True}, "randomness = dict(seed=7, deterministic=True)"),
        ({"seed": None}, "seed=None"),
        ({"save_steps": 11}, "save_steps = 11"),
        ({"save_total_limit": -1}, "save_total_limit = -1"),
        ({"save_optimizer": False}, "save_optimizer=False"),
        ({"log_interval": 3}, "interval=3"),
        ({"evaluation_inputs": ["Hi"], "evaluation_freq": 9}, "evaluation_freq = 9"),
        ({"evaluation_inputs": ["Hi"]}, "evaluation_inputs = ['Hi']"),
        ({"evaluation_inputs": ["Hi"], "evaluation_max_new_tokens": 8}, "max_new_tokens=8"),
    ],
)
def test_every_value_of_the_recipe_is_in_the_config(train: dict[str, Any], said: str) -> None:
    text = rendered(recipe(train))
    compile(text, "config.py", "exec")
    assert said in text


@pytest.mark.parametrize(
    ("train", "unsaid"),
    [
        ({"method": "full"}, "lora"),
        ({"method": "full"}, "BitsAndBytes"),
        ({"optim_type": "SGD"}, "betas"),
        ({"dtype": "float32"}, "Amp"),
        ({"dtype": "bfloat16"}, "loss_scale"),
        ({}, "EvaluateChatHook"),
        ({"evaluation_inputs": ["Hi"], "evaluation_freq": None}, "EvaluateChatHook"),
        ({}, "max_epochs"),
    ],
)
def test_what_the_recipe_does_not_ask_for_is_not_in_it(train: dict[str, Any], unsaid: str) -> None:
    text = rendered(recipe(train))
    compile(text, "config.py", "exec")
    assert unsaid not in text


def test_plain_text_is_learned_from_as_it_is() -> None:
    data = {"path": "d", "format": "text"}
    values: Any = {"base": {"path": "b"}, "data": data, "train": TRAIN}
    texts = Recipe(**values, name="m", file=Path("recipes/m.yaml"))
    assert "dataset_map_fn=pretrain_map_fn,\n    template_map_fn=None," in rendered(texts)
    assert "openai_map_fn" not in rendered(texts)
    assert config.key(texts)["data.format"] == "text"
    assert "pretrain_map_fn" not in rendered(recipe())
    assert "data.format" not in config.key(recipe())


def test_the_model_s_own_code_runs_only_where_the_recipe_says_so() -> None:
    assert rendered(recipe()).count("trust_remote_code=False") == 2
    assert rendered(recipe(trust_remote_code=True)).count("trust_remote_code=True") == 2


def test_a_config_says_that_it_is_generated_and_from_what() -> None:
    assert rendered(recipe()).startswith(
        "# GENERATED by Modelwright from recipes/m.yaml.  Edit the recipe, not this file.\n"
    )


def test_a_config_is_the_same_every_time_and_nowhere_absolute() -> None:
    assert rendered(recipe()) == rendered(recipe())
    assert str(Path.cwd()) not in rendered(recipe())


@pytest.mark.parametrize(
    ("ratio", "iterations", "warm"),
    [(0.03, 1000, 30), (0.03, 100, 3), (0.03, 10, 2), (0, 100, 2), (0.5, 4, 2), (0.99, 4, 3),
     (0.99, 3, 2)],
)  # fmt: skip
def test_warm_up_takes_two_iterations_at_least_and_leaves_one(
    ratio: float, iterations: int, warm: int
) -> None:
    text = rendered(recipe({"warmup_ratio": ratio, "max_iters": iterations}))
    assert value(text, "warmup_iters") == warm


@pytest.mark.parametrize("iterations", [1, 2])
def test_too_few_iterations_for_a_warm_up_are_refused(project: Project, iterations: int) -> None:
    text = f"base: {{path: b}}\ntrain: {{prompt_template: mistral, max_iters: {iterations}}}\n"
    failed = stage.act("config", config, project.recipe("m", text))
    assert failed is not None
    assert str(failed.get_msg()).startswith(f"{project.recipes}/m.yaml: train.max_iters: ")
    assert not (project.build / "m/config").exists()


TEXTS = st.text(max_size=60) | st.text("{}'\"\\\n #%é", max_size=60)


@effort(max_examples=60)
@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_any_text_comes_through_as_it_is(system: str, inputs: list[str]) -> None:
    text = rendered(recipe({"evaluation_system": system, "evaluation_inputs": inputs}))
    assert value(text, "SYSTEM") == system
    assert value(text, "evaluation_inputs") == inputs


def test_what_is_silent_changes_the_config_but_not_its_content(project: Project) -> None:
    found = []
    for number, more in enumerate(("", ", log_interval: 3", ", lr: 1e-5")):
        text = f"base: {{path: b}}\ntrain: {{prompt_template: mistral, max_iters: 9{more}}}\n"
        assert stage.act("config", config, project.recipe(f"m{number}", text)) is None
        place = project.build / f"m{number}" / "config"
        receipt = json.loads((place / "manifest.json").read_text())
        found.append(((place / "config.py").read_text()[60:], receipt["facts"]["content"]))
    assert found[0][0] != found[1][0]
    assert found[0][1] == found[1][1]
    assert found[0][1] != found[2][1]


@pytest.mark.parametrize(
    ("train", "interval"),
    [({"max_iters": 5}, 5), ({"max_iters": 5, "log_interval": 2}, 2), (epochs(), 10)],
)
def test_a_training_shorter_than_the_log_s_interval_logs_its_end(
    train: dict[str, Any], interval: int
) -> None:
    found = recipe(train)
    assert f"interval={interval})," in rendered(found)
    assert config.key(found)["train.log_interval"] == interval
    assert config.meaning(found)["train"].log_interval == 10


@pytest.mark.parametrize("more", ["", ", lr: 1e-5"])
def test_a_config_edited_by_hand_is_not_rendered_over(project: Project, more: str) -> None:
    text = "base: {path: b}\ntrain: {prompt_template: mistral, max_iters: 9%s}\n"
    assert stage.act("config", config, project.recipe("m", text % "")) is None
    path = project.build / "m/config/config.py"
    edited = path.read_text() + "lr = 1\n"
    path.write_text(edited)
    changed = project.recipe("m", text % more)

    failed = stage.act("config", config, changed)

    assert failed is not None
    assert str(failed.get_msg()).startswith(
        f"{path} was edited by hand, and would be rendered over"
    )
    assert path.read_text() == edited
    path.unlink()
    assert stage.act("config", config, changed) is None
    assert "lr = 1\n" not in path.read_text()


OWN = "base: {path: b}\ntrain: {prompt_template: mistral, max_iters: 9, template: own.j2}\n"


def own(project: Project, text: str) -> str:
    """Run the stage with a template of the recipe's own; return what it says."""
    found = project.recipe("m", OWN)
    (project.recipes / "m").mkdir(exist_ok=True)
    (project.recipes / "m" / "own.j2").write_text(text)
    failed = stage.act("config", config, found)
    return "" if failed is None else str(failed.get_msg()).strip()


def test_a_recipe_may_have_a_template_of_its_own(project: Project) -> None:
    assert own(project, "{% include 'xtuner_config.py.j2' %}lr = {{ train.lr }}  # mine\n") == ""
    assert "# mine" in (project.build / "m/config/config.py").read_text()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{{ nothing }}", "'nothing' is undefined"),
        ("a =\n", "renders no Python: line 1"),
        ("{{ '\\0' }}", "renders no Python"),
        ("{% if %}", "own.j2:1: "),
        ("{{ ''.__class__ }}{{ [].__class__.__base__.__subclasses__() }}", "unsafe"),
    ],
)
def test_a_broken_template_is_refused_by_file(project: Project, text: str, said: str) -> None:
    found = own(project, text)
    assert found.startswith(f"{project.recipes}/m/own.j2:")
    assert said in found
    assert not (project.build / "m/config").exists()


def test_a_missing_template_is_named_with_the_recipe(project: Project) -> None:
    failed = stage.act("config", config, project.recipe("m", OWN))
    assert failed is not None
    assert "own.j2: no such file; " in str(failed.get_msg())


def test_only_what_can_change_the_config_is_in_its_key() -> None:
    keys = config.key(recipe())
    assert all(name.startswith("train.") or name == "base.trust_remote_code" for name in keys)
    assert keys["train.lr"] == 2e-4


def test_a_template_that_the_recipes_own_includes_is_an_input(project: Project) -> None:
    folder = project.recipes / "inc"
    folder.mkdir()
    (folder / "own.py.j2").write_text('{% extends "extra.j2" %}')
    (folder / "extra.j2").write_text("x = 1\n")
    text = "train: {prompt_template: default, max_iters: 10, template: own.py.j2}\n"
    recipe = project.recipe("inc", f"base: {{path: base}}\ndata: {{path: data}}\n{text}")

    found = config.task(recipe)["file_dep"]

    assert found == [folder / "own.py.j2", folder / "extra.j2"]


LLAMA = {
    "model_type": "llama", "num_hidden_layers": 32, "hidden_size": 4096, "vocab_size": 128256,
    "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8,
}  # fmt: skip
PRESET = "base: {path: b}\ntrain: {prompt_template: mistral, max_epochs: 1, preset: auto%s}\n"


def preset(
    project: Project, monkeypatch: pytest.MonkeyPatch, devices: str, more: str = "", **set_: str
) -> tuple[str, str, str]:
    """Run the stage for some devices; return what it says, the config and its content."""
    for name, text in {"devices": devices, **set_}.items():
        monkeypatch.setenv(f"MODELWRIGHT_{name.upper()}", text)
    settings.current.cache_clear()
    shutil.rmtree(project.build, ignore_errors=True)
    project.result("m", "base", {"config.json": json.dumps(LLAMA).encode()})
    failed = stage.act("config", config, project.recipe("m", PRESET % more))
    if failed is not None:
        return str(failed.get_msg()), "", ""
    place = project.build / "m" / "config"
    content = json.loads((place / "manifest.json").read_text())["facts"]["content"]
    return "", (place / "config.py").read_text(), content


def test_a_preset_s_choices_are_in_the_config_with_their_reasons(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, text, _ = preset(project, monkeypatch, "80 GB H100")
    compile(text, "config.py", "exec")
    for said in ("type=FastFinetune", "type=process,", "dict(type=collate, part=1)",
                 "batch_size = 4", "accumulative_counts = 4", "checkpoint_layers = 0",
                 "torch_dtype=torch.bfloat16", "type=OptimWrapper", "fused=True",
                 "sampler = Epochs", "count=max_epochs", "max_epochs=1)",
                 "pin_memory=True"):  # fmt: skip
        assert said in text
    for unsaid in ("Amp", "Supervised", "use_varlen", "default_collate_fn", "DefaultSampler",
                   "SequenceParallelSampler", "end=max_epochs"):  # fmt: skip
        assert unsaid not in text
    reason = "batch_size 4, accumulative_counts 4: up to 8192 tokens at a time, 16 rows a step"
    assert reason in text
    assert reason in capsys.readouterr().out


@pytest.mark.parametrize(
    ("counts", "batch"),
    [("max_epochs: 1", 4), ("max_iters: 9", 1), ("batch_size: 2, max_iters: 9", 2)],
)
def test_an_iteration_that_the_recipe_counts_stays_what_it_is(
    project: Project, monkeypatch: pytest.MonkeyPatch, counts: str, batch: int
) -> None:
    text = PRESET.replace("max_epochs: 1", counts)
    monkeypatch.setattr("tests.test_config.PRESET", text)
    _, text, _ = preset(project, monkeypatch, "80 GB H100")
    assert value(text, "batch_size") == batch


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        ("80 GB V100", 'dtype="float16"'),
        ("none", "torch_dtype=torch.float32"),
        ("24 GB 4090", "checkpoint_layers = 31"),
    ],
)
def test_a_preset_looks_at_the_devices(
    project: Project, monkeypatch: pytest.MonkeyPatch, devices: str, said: str
) -> None:
    _, text, _ = preset(project, monkeypatch, devices)
    compile(text, "config.py", "exec")
    assert said in text


def test_a_preset_for_a_cluster_wants_to_be_told_its_devices(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWRIGHT_LAUNCHER", "slurm")
    monkeypatch.setattr(torchbuild, "has_gpu", lambda: False)
    said, _, _ = preset(project, monkeypatch, "")
    assert "MODELWRIGHT_DEVICES" in said


def test_what_a_preset_makes_of_the_devices_changes_no_key_of_training(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, large, content = preset(project, monkeypatch, "80 GB H100")
    _, small, same = preset(project, monkeypatch, "24 GB 4090")
    _, _, other = preset(project, monkeypatch, "24 GB 4090", ", lr: 1e-5")
    assert large != small
    assert content == same != other


def test_other_devices_render_a_preset_s_config_anew(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset(project, monkeypatch, "80 GB H100")
    found = recipes.read(project.recipes / "m.yaml")
    assert stage.is_fresh("config", config, found)
    monkeypatch.setenv("MODELWRIGHT_DEVICES", "24 GB 4090")
    settings.current.cache_clear()
    assert not stage.is_fresh("config", config, found)


@pytest.mark.parametrize(
    ("more", "differ"),
    [
        ("checkpoint: 9\n", True),
        ("evaluate: {prompts: p}\ncheckpoint: [9, last]\n", True),
        ("evaluate: {prompts: p}\ncheckpoint: best\n", False),
        ("checkpoint: last\n", False),
    ],
)
def test_a_checkpoint_by_number_is_in_the_keys_where_a_preset_keeps_batches_for_it(
    project: Project, more: str, differ: bool
) -> None:
    plain, named = (
        project.recipe(name, PRESET % "" + text) for name, text in (("m", ""), ("n", more))
    )
    assert (config.key(plain) != config.key(named)) is differ
    assert (train.key(plain) != train.key(named)) is differ


@pytest.mark.parametrize("counts", ["max_iters: 9, preset: auto", "max_epochs: 1"])
def test_elsewhere_it_changes_no_key(project: Project, counts: str) -> None:
    text = (PRESET % "").replace("max_epochs: 1, preset: auto", counts)
    plain, named = project.recipe("m", text), project.recipe("n", f"{text}checkpoint: 9\n")
    assert config.key(plain) == config.key(named)
    assert train.key(plain) == train.key(named)


def test_a_checkpoint_on_the_command_line_trains_nothing_anew(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text, _ = preset(project, monkeypatch, "80 GB H100")
    found = recipes.read(project.recipes / "m.yaml")
    asked = found.model_copy(update={"checkpoint": 9})
    assert stage.is_fresh("config", config, asked)
    assert train.key(asked) == train.key(found)
    # What is counted with before training is what was rendered.
    assert choice(asked).train.batch_size == value(text, "batch_size") == 4


@pytest.mark.parametrize(
    ("more", "trains"),
    [
        (", batch_size: 1", True),
        (", dtype: float16", False),
        (", launch: {deepspeed: null}", False),
    ],
)
def test_a_default_that_is_said_is_rendered_by_a_preset(
    project: Project, monkeypatch: pytest.MonkeyPatch, more: str, trains: bool
) -> None:
    preset(project, monkeypatch, "80 GB H100")
    found, said = recipes.read(project.recipes / "m.yaml"), project.recipe("m", PRESET % more)
    assert not stage.is_fresh("config", config, said)
    assert (train.key(said) != train.key(found)) is trains


def test_what_does_not_fit_is_refused_and_runs_by_force(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, _, _ = preset(project, monkeypatch, "8 GB", ", method: qlora")
    assert said.startswith(f"{project.recipes}/m.yaml: train.preset: 8.0 billion parameters do not")
    assert "`--force`" in said
    said, text, _ = preset(project, monkeypatch, "8 GB", ", method: qlora", force="1")
    assert said == ""
    assert "checkpoint_layers = 31" in text


def test_force_may_be_said_behind_the_task(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    preset(project, monkeypatch, "8 GB", ", method: qlora")
    for words, status in (["config:m", "-s"], 1), (["config:m", "-s", "--force"], 0):
        done = doit(*words, build=project.build, recipes=project.recipes)
        assert done.returncode == status, done.stdout + done.stderr
