"""The parts of a recipe: what each accepts and refuses."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from tasks.core import sections
from tasks.core.sections import (
    Adapter,
    App,
    Base,
    Evaluate,
    Gateway,
    Image,
    Merge,
    Onboard,
    PromptTemplate,
    Section,
    Train,
)

LEAST = {"prompt_template": "llama3_chat", "max_iters": 1}


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (Base, {"path": "a"}),
        (Base, {"hub": "a/b", "revision": "main"}),
        (Train, LEAST),
        (Train, {**LEAST, "lr": "2e-4", "betas": [0.9, 0.95], "seed": None}),
        (Adapter, {"path": "a"}),
        (Merge, {"shard_size": "200MB"}),
        (Image, {"base": "scratch", "repository": "llms/llama3-8b_x.y", "tag": "v2.0.1"}),
        (Image, {"base": "scratch", "repository": "a", "tag": "a" * 128}),
        (Onboard, {"mount": "/root/llms/m"}),
        (Gateway, {}),
        (Gateway, {"name": "a b", "model": "org/m:7b", "group": "vip,default", "priority": -1}),
        (App, {"fastgpt": {}}),
    ],
)
def test_a_part_takes_what_it_is_for(section: type[Section], values: dict[str, Any]) -> None:
    section(**values)


@pytest.mark.parametrize(
    ("section", "values", "key"),
    [
        (Gateway, {"name": "a" * 65}, "name"),
        (Gateway, {"model": "one,two"}, "model"),
        (Gateway, {"group": "a b"}, "group"),
        (Gateway, {"priority": True}, "priority"),
        (Base, {"path": ""}, "path"),
        (Base, {"path": 7}, "path"),
        (Base, {"path": "a", "trust_remote_code": "perhaps"}, "trust_remote_code"),
        (Train, {**LEAST, "max_iters": 0}, "max_iters"),
        (Train, {**LEAST, "max_iters": True}, "max_iters"),
        (Train, {**LEAST, "max_iters": 1.5}, "max_iters"),
        (Train, {**LEAST, "lr": 0}, "lr"),
        (Train, {**LEAST, "lr": float("nan")}, "lr"),
        (Train, {**LEAST, "lr": float("inf")}, "lr"),
        (Train, {**LEAST, "lr": False}, "lr"),
        (Train, {**LEAST, "warmup_ratio": 1.1}, "warmup_ratio"),
        (Train, {**LEAST, "seed": -1}, "seed"),
        (Train, {**LEAST, "save_total_limit": -2}, "save_total_limit"),
        (Train, {**LEAST, "prompt_template": "llama4"}, "prompt_template"),
        (Merge, {"shard_size": "0GB"}, "shard_size"),
        (Merge, {"shard_size": "5 GB"}, "shard_size"),
        (Image, {"base": "scratch", "repository": "A/b"}, "repository"),
        (Image, {"base": "scratch", "repository": "../b"}, "repository"),
        (Image, {"base": "scratch", "repository": "a//b"}, "repository"),
        (Image, {"base": "scratch", "repository": "a" * 256}, "repository"),
        (Image, {"base": "scratch", "repository": "a", "tag": "a" * 129}, "tag"),
        (Image, {"base": "scratch", "repository": "a", "tag": "-a"}, "tag"),
        (Onboard, {"mount": "relative"}, "mount"),
        (Onboard, {"mount": "/a b"}, "mount"),
        (App, {"fastgpt": {"maxContext": -1}}, "maxContext"),
    ],
)
def test_a_part_refuses_what_it_cannot_use(
    section: type[Section], values: dict[str, Any], key: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        section(**values)
    assert [fault["loc"][-1] for fault in caught.value.errors()] == [key]


def test_a_repository_is_refused_in_words() -> None:
    with pytest.raises(ValidationError, match="small letters and digits, between them") as caught:
        Image(base="scratch", repository="Foo/Bar")
    assert "[a-z" not in str(caught.value)


def test_what_is_silent_is_a_key_of_train_and_has_a_default() -> None:
    for name in Train.silent:
        assert not Train.model_fields[name].is_required()


def test_a_default_is_spelt_as_the_same_number_read_from_a_recipe() -> None:
    """`0` is read as 0.0, which is other JSON: keys would differ for those who write it out."""
    parts = [each for each in vars(sections).values() if isinstance(each, type)]
    whole = [
        f"{part.__name__}.{name}"
        for part in parts
        if issubclass(part, Section)
        for name, field in part.model_fields.items()
        if float in (field.annotation, *get_args(field.annotation)) and type(field.default) is int
    ]
    assert not whole


def test_the_prompt_templates_are_all_of_xtuner_s(xtuner: str) -> None:
    find = "import importlib.util as i; print(i.find_spec('xtuner').submodule_search_locations[0])"
    done = subprocess.run([xtuner, "-c", find], capture_output=True, text=True, check=True)
    tree = ast.parse((Path(done.stdout.strip()) / "utils" / "templates.py").read_text())
    (templates,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PROMPT_TEMPLATE"
    )
    assert isinstance(templates, ast.Call)
    assert set(get_args(PromptTemplate)) == {keyword.arg for keyword in templates.keywords}


@pytest.mark.parametrize("name", ["base", "tuned", "gpt-4.1", "vllm_8b"])
def test_a_served_model_has_a_word_for_the_report(name: str) -> None:
    assert Evaluate.model_validate({"prompts": "p", "served": {name: "some/model"}}).served


@pytest.mark.parametrize("name", ["expect", "messages", "a/b", "", "..", "a b"])
def test_a_word_that_would_get_lost_in_the_report_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="another plain word for the report"):
        Evaluate.model_validate({"prompts": "p", "served": {name: "some/model"}})
