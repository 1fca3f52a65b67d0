"""Adapters out of checkpoints, and given ones."""

from __future__ import annotations

import json
import struct
from collections import OrderedDict
from pathlib import Path

import pytest

from tasks import adapter, train
from tasks.core import paths
from tasks.core.engine import inputs, manifest
from tasks.core.errors import UserError
from tasks.core.model import peft, safetensors
from tasks.core.model.tensors import read
from tasks.core.xtuner import config as settings_of
from tests.conftest import Project
from tests.core.model.test_checkpoint import saved, tensor

CONFIG = """
r = 2
model = dict(lora=dict(type=LoraConfig, r=r, lora_alpha=4, lora_dropout=0.1, bias="none",
                       task_type="CAUSAL_LM"))
"""
PREFIX = "llm.base_model.model.layers.0.q_proj."
A, B = f"{PREFIX}lora_A.default.weight", f"{PREFIX}lora_B.default.weight"
HALVES = {
    "base_model.model.layers.0.q_proj.lora_A.weight": struct.pack("<6e", *range(6)),
    "base_model.model.layers.0.q_proj.lora_B.weight": struct.pack("<4e", 6, 7, 8, 9),
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.py"
    path.write_text(CONFIG)
    return path


def floats(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def extracted(path: Path, config: Path) -> dict[str, bytes]:
    folder = path.parent / "adapter"
    folder.mkdir()
    adapter.extract(path, config, folder, "the/base")
    found = safetensors.read(folder / peft.WEIGHTS).tensors
    assert {each.dtype for each in found.values()} == {"F16"}
    return {name: bytes(read(each)) for name, each in found.items()}


def test_a_checkpoint_becomes_an_adapter_in_float16(
    project: Project, tmp_path: Path, config: Path
) -> None:
    state = {A: tensor((2, 3), key="0"), B: tensor((2, 2), (2, 1), key="1", elements=4)}
    storages = {"0": floats(*range(6)), "1": floats(6, 7, 8, 9)}
    path = saved(tmp_path / "iter_1.pth", {"state_dict": state, "meta": {}}, storages)
    assert extracted(path, config) == HALVES
    settings = json.loads((tmp_path / "adapter" / peft.CONFIG).read_text())
    assert settings["target_modules"] == ["q_proj"]
    assert (settings["r"], settings["lora_alpha"]) == (2, 4)
    assert settings["base_model_name_or_path"] == "the/base"


def rank(folder: Path, number: int, stage: int, ranks: int, group: list[float]) -> None:
    flat = tensor((len(group),), (1,), elements=len(group))
    key = "fp32_flat_groups" if stage == 3 else "single_partition_of_fp32_groups"
    content = {"zero_stage": stage, "partition_count": ranks, key: [flat]}
    path = folder / f"bf16_zero_pp_rank_{number}_mp_rank_00_optim_states.pt"
    saved(path, {"optimizer_state_dict": content}, {"0": floats(*group)})


def states(folder: Path) -> None:
    shapes = {A: (2, 3), B: (2, 2)}
    content: dict[str, object] = {
        "module": {}, "buffer_names": [], "shared_params": {}, "frozen_param_shapes": None,
        "param_shapes": [OrderedDict(shapes)],
    }  # fmt: skip
    saved(folder / "zero_pp_rank_0_mp_rank_00_model_states.pt", content)


@pytest.mark.parametrize(
    ("stage", "groups"),
    [
        (1, [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]),
        (2, [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 99, 99]]),
        (3, [[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]]),
        (3, [[0, 1, 2, 6, 7], [3, 4, 5, 8, 9]]),
        (3, [[0, 1, 6], [2, 3, 7], [4, 5, 8], [99, 99, 9]]),
    ],
)
def test_the_ranks_parts_become_an_adapter(
    project: Project, tmp_path: Path, config: Path, stage: int, groups: list[list[float]]
) -> None:
    folder = tmp_path / "iter_1.pth"
    folder.mkdir()
    for number, group in enumerate(groups):
        rank(folder, number, stage, len(groups), group)
    states(folder)
    assert extracted(folder, config) == HALVES


def test_a_missing_rank_is_named(project: Project, tmp_path: Path, config: Path) -> None:
    folder = tmp_path / "iter_1.pth"
    folder.mkdir()
    rank(folder, 0, 2, 2, [0, 1, 2, 3, 4])
    states(folder)
    with pytest.raises(UserError, match="2 processes trained, 1 "):
        extracted(folder, config)


@pytest.mark.parametrize("bad", [float("nan"), 1e6])
def test_numbers_that_float16_cannot_hold_are_an_error(
    project: Project, tmp_path: Path, config: Path, bad: float
) -> None:
    path = saved(tmp_path / "iter_1.pth", {A: tensor()}, {"0": floats(0, 1, 2, 3, 4, bad)})
    with pytest.raises(UserError, match=r"iter_1\.pth: .*lora_A.*diverged"):
        extracted(path, config)


def test_a_model_without_lora_is_an_error(project: Project, tmp_path: Path, config: Path) -> None:
    path = saved(tmp_path / "iter_1.pth", {"llm.w": tensor()})
    with pytest.raises(UserError, match="holds no LoRA"):
        extracted(path, config)


def test_an_argument_that_must_be_run_is_an_error(project: Project, tmp_path: Path) -> None:
    config = tmp_path / "config.py"
    config.write_text("lora = dict(type=LoraConfig, r=int('2'))")
    path = saved(tmp_path / "iter_1.pth", {A: tensor()})
    with pytest.raises(UserError, match=r"config\.py:1: LoraConfig's r is no plain value"):
        extracted(path, config)


LORA = "model = dict(lora=dict(type=LoraConfig, r=8, lora_alpha=alpha))"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a = dict(r=8)\nlora = dict(type=LoraConfig, **a)", "py:2: LoraConfig's a is no"),
        ("lora = LoraConfig(8)", "py:1: LoraConfig's 8 is no"),
        (f"alpha = 16\nalpha *= 2\n{LORA}", "py:3: LoraConfig's lora_alpha is no"),
        (f"alpha = 16\nif True:\n    alpha = 32\n{LORA}", "py:4: LoraConfig's lora_alpha is no"),
        (f"alpha = 16\n{LORA}\nalpha = 4", "py:2: LoraConfig's lora_alpha is no"),
        (LORA.replace("alpha)", "{[]})"), "py:1: LoraConfig's lora_alpha is no"),
        (f"alpha = 16\n{LORA}\nmodel['lora']['lora_alpha'] = 64", "py:3: model, .*changed here"),
        (f"alpha = 16\n{LORA}\nmodel.update(lora=None)", "py:3: model, .*changed here"),
        (f"alpha = 16\n{LORA}\nmodel = dict(model, r=2)", "py:3: model, .*changed here"),
        (
            "lora = dict(type=LoraConfig, r=8)\nmodel = dict(lora=lora)\nmodel['lora']['r'] = 4",
            "py:3: model, .*changed here",
        ),
    ],
)
def test_settings_that_are_not_what_they_seem_are_refused(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "config.py"
    path.write_text(text)
    with pytest.raises(UserError, match=complaint):
        settings_of.lora(path)


def test_a_set_of_modules_is_a_list_in_json(tmp_path: Path) -> None:
    path = tmp_path / "config.py"
    path.write_text("lora = LoraConfig(r=8, target_modules={'v_proj', 'q_proj'})\nother['x'] = 1\n")
    assert settings_of.lora(path)["target_modules"] == ["q_proj", "v_proj"]


def test_a_pickled_adapter_that_is_given_becomes_safetensors(project: Project) -> None:
    theirs = project.recipes / "m/theirs"
    theirs.mkdir(parents=True)
    (theirs / peft.CONFIG).write_text('{"peft_type": "LORA", "r": 2}')
    short = PREFIX.removeprefix("llm.")
    parts = {f"{short}lora_A.weight": tensor(), f"{short}lora_B.weight": tensor((3, 2), (2, 1))}
    saved(theirs / peft.PICKLED, parts)
    recipe = project.recipe("m", "base: {path: x}\nadapter: {path: theirs}\n")
    folder = project.build / "out"
    folder.mkdir(parents=True)
    assert adapter.run(recipe, folder) == {"tensors": 2, "parameters": 12, "rank": 2}
    assert sorted(path.name for path in folder.iterdir()) == sorted(adapter.FILES)


@pytest.fixture
def left(project: Project) -> Path:
    """What xtuner leaves in its work folder: checkpoints, its dumped config, logs."""
    folder = project.recipes / "m/theirs"
    (folder / "20240601/vis_data").mkdir(parents=True)
    for name in ("llama3_3e.py", "20240601/vis_data/config.py"):
        (folder / name).write_text(CONFIG.replace("type=LoraConfig", "type='peft.LoraConfig'"))
    for name in ("zero_to_fp32.py", "last_checkpoint", "iter_9.pth"):
        (folder / name).write_text("")
    state = {A: tensor((2, 3), key="0"), B: tensor((2, 2), (2, 1), key="1", elements=4)}
    storages = {"0": floats(*range(6)), "1": floats(6, 7, 8, 9)}
    saved(folder / "iter_10.pth", {"state_dict": state, "meta": {}}, storages)
    return folder


@pytest.mark.parametrize("shared_out", [False, True])
def test_the_newest_checkpoint_that_xtuner_left_is_taken_by_the_config_beside_it(
    project: Project, left: Path, shared_out: bool
) -> None:
    if shared_out:
        (left / "iter_10.pth").unlink()
        (left / "iter_10.pth").mkdir()
        states(left / "iter_10.pth")
        for number, group in enumerate(([0, 1, 2, 3, 4], [5, 6, 7, 8, 9])):
            rank(left / "iter_10.pth", number, 2, 2, [float(each) for each in group])
    before = {path: path.stat().st_ctime_ns for path in left.rglob("*")}
    recipe = project.recipe("m", "base: {path: x}\nadapter: {path: theirs}\n")
    folder = project.build / "out"
    folder.mkdir(parents=True)
    assert adapter.run(recipe, folder) == {"tensors": 2, "parameters": 10, "rank": 2}
    assert sorted(path.name for path in folder.iterdir()) == sorted(adapter.FILES)
    assert json.loads((folder / peft.CONFIG).read_text())["lora_alpha"] == 4
    assert {path: path.stat().st_ctime_ns for path in left.rglob("*")} == before


@pytest.mark.parametrize("names", [[], ["a.py", "b.py"]])
def test_a_checkpoint_without_the_one_config_that_trained_it_is_refused(
    project: Project, left: Path, names: list[str]
) -> None:
    (left / "llama3_3e.py").unlink()
    for name in names:
        (left / name).write_text(CONFIG)
    recipe = project.recipe("m", "base: {path: x}\nadapter: {path: theirs}\n")
    folder = project.build / "out"
    folder.mkdir(parents=True)
    found = ", ".join(names) or "none"
    with pytest.raises(
        UserError, match=rf"r, lora_alpha and target_modules \(found: {found}\); copy"
    ):
        adapter.run(recipe, folder)


def test_xtuner_is_needed_only_where_the_recipe_asks_for_it(project: Project) -> None:
    train = "base: {path: x}\ntrain: {prompt_template: default, max_epochs: 1}\n"
    assert adapter.task(project.recipe("a", train))["task_dep"] == []
    theirs = project.recipe("b", f"{train}merge: {{with: xtuner}}\n")
    assert adapter.task(theirs)["task_dep"] == ["toolchain:xtuner"]
    assert adapter.key(theirs)["merge.with"] == "xtuner"


TRAINED = (
    "base: {path: x}\ndata: {path: y}\nevaluate: {prompts: p}\n"
    "train: {prompt_template: default, max_iters: 30}\ncheckpoint: "
)


@pytest.fixture
def trained(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a training that left three checkpoints."""
    monkeypatch.setattr("tasks.core.toolchains.toolchain.digest", lambda name: "none")
    names = ("iter_10.pth", "iter_20.pth", "iter_30.pth")
    return project.result("m", "train", dict.fromkeys(names, b""), {"iterations": 30})


@pytest.mark.parametrize(
    ("checkpoint", "taken"), [("last", 30), ("20", 20), ("[20, last]", 10), ("best", 10)]
)
def test_the_checkpoint_is_the_last_or_the_one_named_or_the_chosen_one(
    project: Project, trained: Path, checkpoint: str, taken: int
) -> None:
    project.result("m", "select", {}, {"checkpoint": 10})
    recipe = project.recipe("m", TRAINED + checkpoint)
    assert adapter.checkpoint(recipe) == trained / f"iter_{taken}.pth"


def test_a_checkpoint_that_training_did_not_leave_is_named(project: Project, trained: Path) -> None:
    recipe = project.recipe("m", f"{TRAINED}15")
    with pytest.raises(UserError, match=r"iter_15\.pth is not among .* \(iter_10\.pth, iter_20"):
        adapter.checkpoint(recipe)


def test_a_single_checkpoint_asks_for_nothing_more_than_training(project: Project) -> None:
    single, several = (project.recipe("m", TRAINED + which) for which in ("20", "[10, 20]"))
    stages = ["base", "config", "train"]
    assert [path.parent.name for path in adapter.task(single)["file_dep"]] == stages
    assert [path.parent.name for path in adapter.task(several)["file_dep"]] == [*stages, "select"]
    assert adapter.key(single)["checkpoint"] == 20
    assert "checkpoint" not in adapter.key(several)


@pytest.fixture
def training(project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder in which a training is still at work."""
    monkeypatch.setattr("tasks.core.toolchains.toolchain.digest", lambda name: "none")
    for stage in ("base", "convert", "config"):
        project.result("m", stage, {"f": b""})
    key = manifest.key_of("train", inputs.gather(train, project.recipe("m", f"{TRAINED}20")))
    folder = paths.scratch("m", "train", key)
    folder.mkdir()
    saved(folder / "iter_20.pth", {A: tensor()})
    (folder / "iter_30.pth").write_bytes(b"PK\x03\x04 not written to its end")
    return folder


def ask(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setattr("doit.doit_cmd._CMDLINE_VARS", {"checkpoint": value})


def test_a_checkpoint_is_taken_while_training_goes_on_where_it_is_asked_for(
    project: Project, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = project.recipe("m", f"{TRAINED}20")
    assert [p.parent.name for p in adapter.task(recipe)["file_dep"]] == ["base", "config", "train"]
    ask(monkeypatch, "20")
    assert [p.parent.name for p in adapter.task(recipe)["file_dep"]] == ["base", "config"]
    assert adapter.checkpoint(recipe) == training / "iter_20.pth"
    key = adapter.key(recipe)
    assert key["iter_20.pth"].startswith("sha256:")
    saved(training / "iter_20.pth", {A: tensor(), B: tensor()})
    assert adapter.key(recipe) != key


@pytest.mark.parametrize("number", [10, 30])
def test_a_checkpoint_that_is_not_there_or_not_whole_waits_for_training(
    project: Project, training: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    ask(monkeypatch, str(number))
    recipe = project.recipe("m", TRAINED + str(number))
    assert adapter.early(recipe) is None
    assert adapter.task(recipe)["file_dep"][-1].parent.name == "train"


def test_another_recipe_s_unfinished_training_is_not_taken(
    project: Project, training: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(monkeypatch, "20")
    text = TRAINED.replace("max_iters: 30", "max_iters: 30, launch: {processes: 2}")
    assert adapter.early(project.recipe("m", f"{text}20")) is None
