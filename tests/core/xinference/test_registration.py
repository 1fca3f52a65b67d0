"""The registration against what Xinference's sources define."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.core.errors import UserError
from tasks.core.serving.chatmodel import ChatModel
from tasks.core.sources import lockfile
from tasks.core.xinference import registration
from tests.conftest import Project

MODEL = ChatModel("{{ messages }}", {4: "<|eot_id|>", 9: ""}, ("LlamaForCausalLM",), 8_030_000_000)
# LLMFamilyV2 and PytorchLLMSpecV2 of xinference/model/llm/llm_family.py, 4.1.0.
FAMILY = {
    "version": int, "context_length": int, "model_name": str, "model_lang": list,
    "model_ability": list, "model_description": str, "model_family": str, "model_specs": list,
    "chat_template": str, "stop_token_ids": list, "stop": list, "architectures": list,
    "tool_parser": str,
}  # fmt: skip
SPEC: dict[str, Any] = {
    "model_format": str, "model_size_in_billions": (int, str), "quantization": str,
    "model_id": type(None), "model_hub": str, "model_uri": str, "model_revision": type(None),
}  # fmt: skip
ABILITIES = {"embed", "generate", "chat", "tools", "vision", "audio", "omni", "reasoning"}


def made(project: Project, part: str = "name: x", parser: str | None = None) -> dict[str, Any]:
    recipe = project.recipe("m", f"base: {{hub: a/b}}\nserve: {{{part}}}\n")
    return registration.version2(recipe, MODEL, "/models/m", 8192, parser)


@pytest.mark.parametrize("parser", [None, "qwen"])
def test_every_field_is_one_that_the_sources_define(project: Project, parser: str | None) -> None:
    found = made(project, parser=parser)
    assert all(isinstance(value, FAMILY[name]) for name, value in found.items())
    assert set(FAMILY) - set(found) <= {"tool_parser"}
    assert set(found["model_ability"]) <= ABILITIES
    assert len(found["model_specs"]) == 1
    spec = found["model_specs"][0]
    assert set(spec) == set(SPEC)
    assert all(isinstance(spec[name], kind) for name, kind in SPEC.items())


def test_what_the_recipe_says_is_in_it(project: Project) -> None:
    part = "format: awq, quantization: Int4, size: '7', languages: [zh, en], family: own"
    found = made(project, part)
    spec = found["model_specs"][0]
    assert (spec["model_format"], spec["quantization"]) == ("awq", "Int4")
    assert spec["model_size_in_billions"] == 7
    assert (found["model_lang"], found["model_family"]) == (["zh", "en"], "own")
    assert (found["stop_token_ids"], found["stop"]) == ([4, 9], ["<|eot_id|>"])


@pytest.mark.parametrize(
    ("parameters", "size"),
    [(1_264_640, "0_1"), (494_000_000, "0_5"), (1_540_000_000, "1_5"), (8_030_000_000, 8),
     (7_620_000_000, "7_6"), (70_600_000_000, 71)],
)  # fmt: skip
def test_the_size_is_counted(project: Project, parameters: int, size: int | str) -> None:
    recipe = project.recipe("m", "base: {hub: a/b}\nserve: {name: x}\n")
    assert registration.size(recipe, parameters) == size


def test_version_1_has_a_list_of_quantizations(project: Project) -> None:
    new = made(project)
    old = registration.version1(new)
    assert old["version"] == 1
    assert old["model_specs"][0]["quantizations"] == ["none"]
    assert "quantization" not in old["model_specs"][0]
    assert {**old, "version": 2, "model_specs": new["model_specs"]} == new


def test_the_mark_tells_the_model_and_its_content_but_no_path(project: Project) -> None:
    one = registration.marked(made(project), "sha256:1", "p")
    there = {**made(project), "model_specs": [{**one["model_specs"][0], "model_uri": "/else"}]}
    mark = one["model_description"]
    assert registration.marked(there, "sha256:1", "p")["model_description"] == mark
    assert registration.marked(made(project), "sha256:2", "p") != one


OLD = "modelwright:m@0123456789ab"


@pytest.mark.parametrize(
    ("told", "left", "is_ours"),
    [
        *((told, "", False) for told in (None, "", "a model", "modelwright:m", f"{OLD[:-1]}z")),
        (f"{OLD}/mine", "", True),
        (f"{OLD}/theirs", "", False),
        (f"{OLD.replace(':m', ':n')}/mine", "", False),
        (OLD, "", False),
        (OLD, OLD, True),
    ],
)
def test_a_mark_is_ours_by_its_owner(
    project: Project, told: str | None, left: str, is_ours: bool
) -> None:
    recipe = project.recipe("m", "base: {hub: a/b}\nserve: {name: x}\n")
    lockfile.update(recipe, "owner", id="mine")
    assert registration.is_ours(told, recipe, left) is is_ours


def test_parsers_of_vllm_are_known_by_xinference_s_names(project: Project) -> None:
    recipe = project.recipe("m", "base: {hub: a/b}\nserve: {name: x}\n")
    assert registration.tool_parser(recipe, "hermes") == "qwen"
    assert registration.tool_parser(recipe, "mistral") is None
    assert set(registration.PARSERS.values()) <= set(registration.FAMILIES)
    wrong = project.recipe("n", "base: {hub: a/b}\nserve: {tool_parser: llama}\n")
    with pytest.raises(UserError, match="perhaps you meant 'llama3'"):
        registration.tool_parser(wrong, None)
