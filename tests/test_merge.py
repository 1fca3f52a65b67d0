"""Merged weights as a stage makes them."""

from __future__ import annotations

import json
import shutil
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks import merge
from tasks.core.engine import digests, manifest
from tasks.core.errors import UserError
from tasks.core.model import safetensors, weights
from tests.conftest import Project, doit
from tests.core.model.test_checkpoint import saved, tensor
from tests.core.model.test_merging import adapter, model, numbers, spare, ulp

WEIGHTS = {
    f"model.layers.{n}.q.weight": ("BF16", np.full((400, 300), n / 8)) for n in range(12)
} | {"model.norm.weight": ("F32", np.ones(300))}
FACTORS = {
    "model.layers.3.q.lora_A.weight": ("F16", np.full((4, 300), 0.5)),
    "model.layers.3.q.lora_B.weight": ("F16", np.full((400, 4), 0.25)),
}
BESIDE = {
    "generation_config.json": b"{}",
    "tokenizer.json": b"{}",
    "tokenizer.model": b"spm",
    "chat_template.jinja": b"{{ messages }}",
    "modeling_own.py": b"pass",
    "README.md": b"about the base",
    "model.gguf": b"other weights",
}


@pytest.fixture
def parts(project: Project, tmp_path: Path) -> tuple[Path, Path, Path]:
    base = model(tmp_path / "base", WEIGHTS)
    for name, content in BESIDE.items():
        (base / name).write_bytes(content)
    (tmp_path / "out").mkdir()
    return base, adapter(tmp_path / "adapter", FACTORS), tmp_path / "out"


def test_shards_hold_every_tensor_once_and_the_index_names_them(
    parts: tuple[Path, Path, Path],
) -> None:
    base, tuned, out = parts
    merge.merge(base, tuned, out, 1_000_000)
    shards = sorted(out.glob("*.safetensors"))
    assert [path.name for path in shards] == [
        f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)
    ]
    assert all(path.stat().st_size < 1_010_000 for path in shards)
    index = json.loads((out / "model.safetensors.index.json").read_text())
    held = {name: path.name for path in shards for name in safetensors.read(path).tensors}
    assert index["weight_map"] == held
    assert index["metadata"]["total_size"] == 12 * 400 * 300 * 2 + 300 * 4
    before = numbers(base / "model.safetensors")
    after = {name: each for path in shards for name, each in numbers(path).items()}
    changed = "model.layers.3.q.weight"
    assert after.keys() == before.keys()
    assert all((after[name] == before[name]).all() for name in before if name != changed)
    # alpha 8, rank 4: 3/8 + 2 * (4 * 0.5 * 0.25)
    assert (after[changed] == 1.375).all()


def test_what_a_model_needs_comes_along_and_the_rest_does_not(
    parts: tuple[Path, Path, Path],
) -> None:
    base, tuned, out = parts
    merge.merge(base, tuned, out, 10**9)
    assert sorted(path.name for path in out.iterdir()) == [
        "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
        "modeling_own.py", "tokenizer.json", "tokenizer.model",
    ]  # fmt: skip
    assert (out / "config.json").read_bytes() == (base / "config.json").read_bytes()


def test_digests_are_taken_while_writing(
    parts: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    base, tuned, out = parts
    merge.merge(base, tuned, out, 10**9)
    path = out / "model.safetensors"
    assert digests.known(path) == digests.of_bytes(path.read_bytes())


def test_a_sharded_base_of_pickles_is_merged(project: Project, tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    places = {}
    for n, name in enumerate(("q.weight", "o.weight")):
        file = f"pytorch_model-0000{n + 1}-of-00002.bin"
        saved(base / file, {name: tensor()})
        places[name] = file
    index = {"metadata": {}, "weight_map": places}
    (base / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    factors = {
        "q.lora_A.weight": ("F32", np.ones((4, 3))),
        "q.lora_B.weight": ("F32", np.ones((2, 4))),
    }
    tuned = adapter(tmp_path / "adapter", factors)
    (tmp_path / "out").mkdir()
    merge.merge(base, tuned, tmp_path / "out", 10**9)
    found = numbers(tmp_path / "out/model.safetensors")
    assert found["o.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["q.weight"].tolist() == [[8, 9, 10], [11, 12, 13]]


FULL = {"w": ("BF16", np.zeros((2, 3))), "rotary.inv_freq": ("F32", np.ones(2))}


def test_full_tuning_becomes_weights_of_the_bases_types(project: Project, tmp_path: Path) -> None:
    base = model(tmp_path / "base", FULL)
    path = saved(tmp_path / "iter_1.pth", {"state_dict": {"llm.w": tensor()}})
    (tmp_path / "out").mkdir()
    made = merge.convert(base, path, tmp_path / "out", 10**9)
    assert made.facts == {"tensors": 2, "parameters": 8, "dtype": "BF16"}
    assert numbers(tmp_path / "out/model.safetensors")["w"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("state", "complaint"),
    [
        ({"llm.x": tensor()}, "x: the base has no such weight"),
        ({"llm.w": tensor((6,), (1,))}, r"w: shape \[6\]"),
        ({"llm.rotary.inv_freq": tensor((2,), (1,))}, "w: not in the checkpoint"),
        ({"w": tensor()}, "no parameter called llm"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(
    project: Project, tmp_path: Path, state: Any, complaint: str
) -> None:
    base = model(tmp_path / "base", FULL)
    path = saved(tmp_path / "iter_1.pth", {"state_dict": state})
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match=complaint):
        merge.convert(base, path, tmp_path / "out", 10**9)


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda base: (base / "config.json").unlink(), "no config.json"),
        (lambda base: (base / "model.safetensors").unlink(), "no weights"),
        (lambda base: (base / "model.safetensors").write_bytes(b"12345678"), "byte 0"),
        (
            lambda base: (base / "model.safetensors").write_bytes(safetensors.LFS_POINTER),
            "git lfs pull",
        ),
        (
            lambda base: (base / "model.safetensors.index.json").write_text(
                '{"weight_map": {"x": "model.safetensors"}}'
            ),
            "model.layers.0.q.weight: not in index",
        ),
        (
            lambda base: (base / "model.safetensors.index.json").write_text(
                '{"weight_map": {"x": "../model.safetensors"}}'
            ),
            "is no file of this folder",
        ),
    ],
)
def test_a_damaged_base_is_found_before_anything_starts(
    parts: tuple[Path, Path, Path], damage: Any, complaint: str
) -> None:
    base, tuned, out = parts
    damage(base)
    with pytest.raises(UserError, match=complaint):
        merge.merge(base, tuned, out, 10**9)
    assert list(out.iterdir()) == []


def test_truncation_is_found_in_every_file_of_a_base(parts: tuple[Path, Path, Path]) -> None:
    base, _, _ = parts
    path = base / "model.safetensors"
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(UserError, match=r"model\.safetensors: byte .*truncated"):
        weights.inspect(base)


def test_the_stage_leaves_facts(project: Project, parts: tuple[Path, Path, Path]) -> None:
    base, tuned, out = parts
    for stage, folder in (("base", base), ("adapter", tuned)):
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        project.result("m", stage, files)
    recipe = project.recipe("m", "base: {path: x}\nadapter: {path: y}\n")
    facts = merge.run(recipe, out)
    assert facts == {"tensors": 13, "parameters": 12 * 400 * 300 + 300, "dtype": "BF16"}
    assert not (out / manifest.NAME).exists()


def test_the_size_of_shards_and_the_tool_are_what_the_key_says(project: Project) -> None:
    recipe = project.recipe("m", "base: {path: x}\nadapter: {path: y}\nmerge: {shard_size: 2GB}\n")
    assert merge.key(recipe) == {"merge.shard_size": "2GB", "merge.with": "streaming"}
    assert merge.task(recipe)["task_dep"] == []


def as_xtuner_leaves_it(command: list[str]) -> None:
    """Put into the folder what xtuner's merge leaves, by transformers 4.48; weights of ours."""
    base, _, folder = (Path(part) for part in command[command.index("merge") + 1 :][:3])
    tensors = {name: ("F16", each) for name, each in numbers(base / "model.safetensors").items()}
    config = json.loads((base / "config.json").read_text())
    model(folder, tensors, **{**config, "_name_or_path": str(base), "torch_dtype": "float16"})
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).write_text("saved anew")
    (folder / "generation_config.json").write_text('{"transformers_version": "4.48.0"}')


@pytest.mark.parametrize("added", [0, 1])
def test_both_ways_leave_the_same_files_beside_the_weights(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, added: int
) -> None:
    base, tuned = spare(tmp_path, added)
    for folder in (base, tuned):
        (folder / "chat_template.jinja").write_text(folder.name)
    (base / "LICENSE").write_text("free")
    recipe = project.recipe(
        "m", f"base: {{path: {base}}}\nadapter: {{path: {tuned}}}\nmerge: {{with: xtuner}}\n"
    )
    monkeypatch.setattr("tasks.core.paths.output", lambda model, stage: base)
    monkeypatch.setattr("tasks.core.xtuner.run", lambda command, *_: as_xtuner_leaves_it(command))
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for out in (ours, theirs):
        out.mkdir()
    merge.merge(base, tuned, ours, 10**9)
    merge.write(recipe, tuned, theirs, tmp_path / "log")

    left = [{path.name: path.read_bytes() for path in out.iterdir()} for out in (ours, theirs)]
    for files in left:
        files.pop("model.safetensors")
    config = json.loads(left[1].pop("config.json"))
    assert config == {**json.loads(left[0].pop("config.json")), "torch_dtype": "float16"}
    assert left[0] == left[1]
    winner = tuned if added else base
    assert left[1]["tokenizer.json"] == (winner / "tokenizer.json").read_bytes()


HEADS = {f"{name}.weight": ("F32", np.ones((12, 3))) for name in ("model.embed_tokens", "lm_head")}


@pytest.mark.parametrize(
    ("tensors", "kind", "complaint"),
    [
        (FACTORS, "llama", r"model\.layers\.3\.q\.weight: the base has no such tensor"),
        (FACTORS, "qwen3_5", "another version of transformers does, which xtuner cannot merge"),
        (HEADS, "llama", r"tokens were added .* cannot merge; say `merge: \{with: streaming\}`"),
    ],
)
def test_xtuner_is_not_asked_to_merge_what_it_would_drop(
    project: Project,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tensors: Any,
    kind: str,
    complaint: str,
) -> None:
    there = {"model.language_model.layers.3.q.weight": ("BF16", np.ones((400, 300)))}
    before = {name: ("F32", np.ones((10, 3))) for name in HEADS}
    base = model(tmp_path / "base", {**there, **before}, model_type=kind)
    tuned = adapter(tmp_path / "adapter", tensors)
    recipe = project.recipe(
        "m", f"base: {{path: {base}}}\nadapter: {{path: {tuned}}}\nmerge: {{with: xtuner}}\n"
    )
    monkeypatch.setattr("tasks.core.paths.output", lambda model, stage: base)
    monkeypatch.setattr("tasks.core.xtuner.run", lambda *_: pytest.fail("xtuner was asked"))
    with pytest.raises(UserError, match=complaint):
        merge.write(recipe, tuned, tmp_path, tmp_path / "log")


TINY = Path("recipes/tiny-agent").absolute()


def of_every_type(folder: Path) -> Path:
    """Make the tiny base anew, a third of its tensors of each type; float16 holds all but F32."""
    before = numbers(TINY / "base/model.safetensors")
    scale = {"F16": 1.0, "BF16": 1.0, "F32": 1.1}
    tensors = {
        name: (dtype, each * scale[dtype])
        for (name, each), dtype in zip(before.items(), cycle(scale), strict=False)
    }
    config = json.loads((TINY / "base/config.json").read_text())
    base = model(folder, tensors, **config)
    for path in (TINY / "base").glob("*token*.json"):
        shutil.copyfile(path, base / path.name)
    return base


def for_every_layer(folder: Path, base: Path) -> Path:
    """Make an adapter for all linear layers, whose products float32 holds exactly."""
    rng, factors = np.random.default_rng(1), {}
    for name, each in numbers(base / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            shapes = {"lora_A": (4, each.shape[1]), "lora_B": (each.shape[0], 4)}
            for part, shape in shapes.items():
                key = f"{name.removesuffix('weight')}{part}.weight"
                factors[key] = "F16", rng.integers(-16, 17, shape) / 64
    aims = sorted({name.split(".")[-3] for name in factors})
    return adapter(folder, factors, target_modules=aims)


@pytest.mark.slow
def test_xtuner_s_merge_differs_by_its_float16_alone(tmp_path: Path, xtuner: str) -> None:
    recipes, build = tmp_path / "recipes", tmp_path / "build"
    base = of_every_type(tmp_path / "base")
    tuned = for_every_layer(tmp_path / "adapter", base)
    recipes.mkdir()
    for name, tool in (("ours", "streaming"), ("theirs", "xtuner")):
        text = f"base: {{path: {base}}}\nadapter: {{path: {tuned}}}\nmerge: {{with: {tool}}}\n"
        (recipes / f"{name}.yaml").write_text(text)

    done = doit("merge:ours", "merge:theirs", build=build, recipes=recipes, xtuner=xtuner)

    assert done.returncode == 0, done.stderr
    folders = [build / name / "merge" for name in ("ours", "theirs")]
    files = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    assert files[0] == files[1]
    before = numbers(base / "model.safetensors")
    ours, theirs = (numbers(folder / "model.safetensors") for folder in folders)
    assert ours.keys() == theirs.keys() == before.keys()
    for name, held in weights.inspect(base).tensors.items():
        loaded = before[name].astype(np.float16)
        # Both add up in float32.  xtuner rounds to float16 what it loads and again what it writes;
        # we round to the base's type what we write.  Writing is off by half a step at most.
        room = np.abs(before[name] - loaded) + ulp(ours[name], "F32")
        room += 0.5 * (ulp(theirs[name], "F16") + ulp(ours[name], held.dtype))
        # Where the base is float16, both round the same sum once.
        allowed = 0.0 if held.dtype == "F16" else room
        assert (np.abs(ours[name] - theirs[name]) <= allowed).all(), name
        if name.endswith("_proj.weight"):
            assert (np.abs(theirs[name] - before[name]) > 2 * room).mean() > 0.9, name
        else:
            assert (theirs[name] == loaded).all(), name


TEXTS = f"""
base: {{path: {TINY}/base}}
data: {{path: texts, format: text}}
train:
  method: full
  prompt_template: default
  max_length: 64
  use_activation_checkpointing: false
  batch_size: 4
  accumulative_counts: 1
  max_iters: 4
  log_interval: 2
  lr: 1e-3
  dtype: float32
  launch: {{threads: 1}}
"""


@pytest.mark.slow
def test_full_tuning_on_plain_text_ends_in_weights_of_the_base_s_form(
    tmp_path: Path, xtuner: str
) -> None:
    recipes, build = tmp_path / "recipes", tmp_path / "build"
    (recipes / "m" / "texts").mkdir(parents=True)
    (recipes / "m.yaml").write_text(TEXTS)
    (recipes / "m" / "texts" / "a.txt").write_text("It rains in Graz, and then the sun. " * 400)

    done = doit("merge:m", build=build, recipes=recipes, xtuner=xtuner)

    assert done.returncode == 0, done.stderr
    before, after = (weights.inspect(build / "m" / stage) for stage in ("base", "merge"))
    assert after.facts == before.facts
    changed = numbers(build / "m/merge/model.safetensors")
    same = numbers(build / "m/base/model.safetensors")
    # Training in full leaves no tensor as it was.
    assert not any((changed[name] == same[name]).all() for name in same)
