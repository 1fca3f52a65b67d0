"""Recipes: what is refused and how it is said, and what a slice holds."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tasks.core import recipe
from tasks.core.engine import inputs, manifest
from tasks.core.errors import LoadError
from tasks.core.recipe import Recipe
from tests.conftest import Project, doit

BROKEN = sorted(Path("tests/recipes/broken").glob("*.yaml"))
BASE = "base: {path: base}\n"
FULL: dict[str, Any] = {
    "base": {"path": "base", "trust_remote_code": True},
    "data": {"path": "data"},
    "train": {
        "prompt_template": "llama3_chat",
        "max_iters": 3,
        "lr": 0.001,
        "lora": {"r": 8, "alpha": 4},
        "launch": {"processes": 2},
    },
    "evaluate": {"prompts": "prompts.jsonl", "gate": {"tool_call_valid": 0.5}},
    "image": {"base": "scratch", "repository": "a/b", "pip": ["tiktoken"]},
    "app": {"fastgpt": {"maxContext": 10}},
}


def expected(path: Path) -> list[str]:
    """Return the faults that a broken recipe's first lines promise."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line[2:] for line in lines if re.match(r"# \d+: ", line)]


def faults(project: Project, text: str, name: str = "m") -> list[str]:
    """Return what is wrong with a recipe, without the file's name."""
    with pytest.raises(LoadError) as caught:
        project.recipe(name, text)
    return str(caught.value).replace(f"{project.recipes / name}.yaml:", "").splitlines()


@pytest.mark.parametrize("path", BROKEN, ids=lambda path: path.stem)
def test_a_broken_recipe_is_refused_with_file_line_and_key_path(path: Path) -> None:
    with pytest.raises(LoadError) as caught:
        recipe.read(path)
    assert expected(path)
    assert str(caught.value).splitlines() == [f"{path}:{line}" for line in expected(path)]


def test_doit_says_all_faults_of_all_recipes_and_starts_nothing(tmp_path: Path) -> None:
    done = doit(build=tmp_path / "build", recipes=BROKEN[0].parent)
    promised = [f"{path}:{line}" for path in BROKEN for line in expected(path)]
    assert done.returncode == 3
    assert done.stderr.strip().removeprefix("ERROR: ").splitlines() == promised
    assert "Traceback" not in done.stdout + done.stderr
    assert not (tmp_path / "build").exists()
    assert not Path("/tmp/modelwright-was-here").exists()


@pytest.mark.parametrize(
    "name", ["Big", "a..b", "..", ".hidden", "-a", "a-", "a b", "é", "a__-b", "1.", "A.b", "a\nb"]
)
def test_a_name_that_no_registry_would_take_is_refused(project: Project, name: str) -> None:
    assert "cannot name a model" in "\n".join(faults(project, BASE, name))


@pytest.mark.parametrize("name", ["a", "a.b", "a_b", "a__b", "a---b", "7b", "llama3-8b-x.y_z"])
def test_a_registry_s_name_is_a_model_s(project: Project, name: str) -> None:
    assert project.recipe(name, BASE).name == name


@pytest.mark.parametrize("name", ["merge", "list", "toolchain", "run"])
def test_a_stage_or_command_names_no_model(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.yaml").write_text(BASE)
    done = doit("plan", build=tmp_path / "build", recipes=tmp_path)
    assert done.returncode == 3
    assert f"'{name}' is the name of a stage or a command" in done.stderr


def test_a_bad_name_hides_no_other_fault(project: Project) -> None:
    said = "\n".join(faults(project, "name: x\nbase: {pth: b}\n", "Big"))
    assert "cannot name a model" in said
    assert "name: unknown key" in said
    assert "base.pth: unknown key" in said


def test_a_yml_file_is_not_left_out_in_silence(project: Project) -> None:
    (project.recipes / "m.yml").write_text(BASE)
    with pytest.raises(LoadError, match=r"m\.yml: call it m\.yaml"):
        recipe.load()


def test_a_value_that_json_cannot_spell_is_told_by_its_kind(project: Project) -> None:
    said = faults(project, "base: {path: x, allow: {2024-01-01: x}}\n")
    assert said == ["1: base.allow: should be a list, such as [a, b], not a dict"]


def test_of_thousands_of_faults_only_the_first_are_put_into_words(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    worded = []

    def say(fault: Any) -> str:
        worded.append(fault)
        return "unknown key"

    monkeypatch.setattr(recipe, "_say", say)
    said = faults(project, BASE + "".join(f"k{number}: 1\n" for number in range(1000)))
    assert len(worded) == len(said) == recipe.MOST_FAULTS + 1
    assert said[0].startswith("2: k0: ")
    assert said[-1] == " and more; mend these first"


def test_a_hidden_file_is_no_recipe(project: Project) -> None:
    """Editors leave such: a lock is a link to nowhere."""
    project.recipe("m", BASE)
    (project.recipes / ".#m.yaml").symlink_to("user@host.1")
    (project.recipes / "._m.yaml").write_bytes(b"\0")
    assert [found.name for found in recipe.load()] == ["m"]


def test_a_name_that_no_file_could_have_is_refused(project: Project) -> None:
    assert project.recipe("m" * 128, BASE).name == "m" * 128
    said = recipe.name_fault("m" * 300, frozenset())
    assert said == f"'{'m' * 32}...' is too long for a model; give it 128 characters at most"


def test_recipes_come_in_the_order_of_their_names(project: Project) -> None:
    for name in ("b", "c", "a"):
        project.recipe(name, BASE)
    assert [found.name for found in recipe.load()] == ["a", "b", "c"]


def test_a_recipes_folder_that_is_missing_is_said_with_its_setting(tmp_path: Path) -> None:
    done = doit("list", build=tmp_path / "build", recipes=tmp_path / "none")
    assert done.returncode == 3
    assert f"{tmp_path}/none: no such folder (MODELWRIGHT_RECIPES)" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("base", "m/base"),
        ("../shared/base", "shared/base"),
        ("/srv/base", "/srv/base"),
        ("~nobody-here/base", "m/~nobody-here/base"),
    ],
)
def test_a_path_starts_beside_the_recipe(project: Project, path: str, place: str) -> None:
    found = project.recipe("m", f"base: {{path: {path}}}\n").beside(path)
    assert found == project.recipes / place


def test_a_path_may_lead_out_of_a_folder_that_is_not_there(project: Project) -> None:
    (project.recipes / "other/base").mkdir(parents=True)
    assert project.recipe("m", BASE).beside("../other/base").is_dir()


def test_a_path_leads_up_from_where_a_link_leads(project: Project, tmp_path: Path) -> None:
    (tmp_path / "disk/m").mkdir(parents=True)
    (tmp_path / "disk/base").mkdir()
    (project.recipes / "m").symlink_to(tmp_path / "disk/m")
    assert project.recipe("m", BASE).beside("../base").samefile(tmp_path / "disk/base")


@pytest.mark.parametrize("path", ["x.jsonl", "../x.jsonl", "../../x.jsonl"])
def test_an_input_is_called_alike_wherever_the_recipes_are(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    here = project.recipe("m", BASE)
    for folder in (project.recipes / "m", tmp_path / "there/recipes/m"):
        folder.mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / "there")
    there = here.model_copy(update={"file": Path("recipes/m.yaml")})
    labels = {inputs._label(found.beside(path), found) for found in (here, there)}
    assert len(labels) == 1
    assert not Path(labels.pop()).is_absolute()


def test_a_path_may_start_at_home(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert project.recipe("m", BASE).beside("~/base") == Path("/home/ann/base")


@pytest.mark.parametrize("text", ["2e-4", "0.0002", "2.0e-4", "'2e-4'"])
def test_a_number_is_read_however_it_is_written(project: Project, text: str) -> None:
    train = f"train: {{prompt_template: llama3_chat, max_iters: 1, lr: {text}}}\n"
    found = project.recipe("m", BASE + train).train
    assert found is not None
    assert found.lr == 0.0002


@pytest.mark.parametrize("value", ["0", "-1", "true", "1.5", "first", "{1: 2}", "null"])
def test_a_checkpoint_is_a_word_or_an_iteration(project: Project, value: str) -> None:
    assert "checkpoint: should be `last`" in faults(project, f"{BASE}checkpoint: {value}\n")[0]


def test_a_recipe_cannot_be_changed(project: Project) -> None:
    found = project.recipe("m", BASE)
    with pytest.raises(ValueError, match="frozen"):
        found.base.path = "other"


PREFIXES = st.lists(
    st.sampled_from(["base", "train", "train.lr", "train.lora", "train.l", "data.path", "image"]),
    max_size=3,
)


@given(PREFIXES)
def test_a_slice_holds_exactly_what_lies_below_its_prefixes(prefixes: list[str]) -> None:
    found = Recipe(**FULL, name="m", file=Path("recipes/m.yaml"))
    whole = found.slice(*FULL)
    wanted = {
        key: value
        for key, value in whole.items()
        if any(key.split(".")[: len(p.split("."))] == p.split(".") for p in prefixes)
    }
    assert found.slice(*prefixes) == wanted


ANYTHING = """
base: {path: base}
data: {path: data}
train: {prompt_template: default, max_iters: 3, lr: 1, betas: [0, 1]}
evaluate: {prompts: prompts.jsonl, served: {gpt: x}}
merge: {with: xtuner}
image: {base: scratch, repository: r, env: {A: "1"}, build: {args: {B: "2"}}}
serve: {name: m}
gateway: {name: m, priority: 0}
app:
  fastgpt:
    charsPointsPrice: 3
    defaultConfig:
      {a: null, b: 2020-01-01, c: .inf, d: [1, null, {x: null}], e: !!set {f}, g: !!binary aGk=,
       h: {}, i: {true: 1, 2: {2020-01-01: 3}}}
"""


def test_a_slice_is_what_pydantic_would_dump(project: Project) -> None:
    """Keys are made of it: a value in another spelling would wake every result there is."""
    found = project.recipe("m", ANYTHING)
    parts = [name for name in Recipe.model_fields if name not in recipe.NOT_WRITTEN]
    told = dict(_leaves(found.model_dump(mode="json", exclude_none=True, by_alias=True)))
    assert json.dumps(found.slice(*parts)) == json.dumps(told)


def _leaves(value: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _leaves(inner, f"{above}{key}.")
        else:
            yield f"{above}{key}", inner


def test_a_prefix_is_a_whole_word() -> None:
    found = Recipe(**FULL, name="m", file=Path("recipes/m.yaml"))
    assert found.slice("train.lr") == {"train.lr": 0.001}
    assert found.slice("train.l") == {}
    assert set(found.slice("train.lora")) >= {"train.lora.r", "train.lora.alpha"}


def test_a_slice_has_no_name_and_no_place() -> None:
    here = Recipe(**FULL, name="m", file=Path("recipes/m.yaml"))
    there = Recipe(**FULL, name="other", file=Path("/srv/recipes/other.yaml"))
    assert here.slice(*FULL) == there.slice(*FULL)


@given(st.randoms(use_true_random=False))
def test_the_order_of_keys_changes_no_slice(
    tmp_path_factory: pytest.TempPathFactory, chance: random.Random
) -> None:
    path = tmp_path_factory.getbasetemp() / "shuffled.yaml"
    path.write_text(yaml.safe_dump(_shuffled(FULL, chance), sort_keys=False))
    plain = Recipe(**FULL, name="m", file=path)
    assert manifest.digest_of(recipe.read(path).slice(*FULL)) == manifest.digest_of(
        plain.slice(*FULL)
    )


def _shuffled(value: Any, chance: random.Random) -> Any:
    if not isinstance(value, dict):
        return value
    keys = list(value)
    chance.shuffle(keys)
    return {key: _shuffled(value[key], chance) for key in keys}


KEYS = st.sampled_from(["base", "path", "train", "lr", "lora", "r", "image", "x", "max_iters"])
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=10,
)


@given(st.dictionaries(KEYS, TREES, max_size=4))
def test_no_tree_of_values_gets_more_than_a_list_of_faults(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "tree.yaml"
    path.write_text(yaml.safe_dump(tree))
    said: list[str] = []
    try:
        recipe.read(path)
    except LoadError as error:
        said = str(error).splitlines()
    assert all(line.startswith(f"{path}:") for line in said)


def test_a_part_is_asked_for_only_where_it_is_there(project: Project) -> None:
    asked = project.recipe("m", yaml.safe_dump(FULL))

    assert recipe.present(asked.train).lr == 0.001
    with pytest.raises(AssertionError, match="a fault of ours"):
        recipe.present(asked.onboard)
