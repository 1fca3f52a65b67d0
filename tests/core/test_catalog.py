"""The catalogue of architectures, and which row a recipe's model has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks.core import catalog
from tasks.core.errors import UserError
from tasks.core.recipe import Recipe
from tests.conftest import Project

# The text models that the document marks with LoRA.
MARKED = {
    *("AquilaForCausalLM", "BaiChuanForCausalLM", "ChatGLMModel", "GemmaForCausalLM"),
    *("InternLMForCausalLM", "LlamaForCausalLM", "MistralForCausalLM", "MixtralForCausalLM"),
    "Qwen2ForCausalLM",
}
ROW = """
- architecture: NewForCausalLM
  models: [New]
  examples: [org/new]
  modality: text
  lora_now: null
  vllm: {first: null, last: null}
  tool_parser: null
  template: null
"""


def local(project: Project, config: str | None, extra: str = "") -> Recipe:
    """Return a recipe whose base is a folder with a config.json."""
    folder = project.recipes / "m" / "base"
    folder.mkdir(parents=True)
    if config is not None:
        (folder / "config.json").write_text(config, encoding="utf-8")
    return project.recipe("m", f"base: {{path: base{extra}}}")


def test_the_document_s_two_tables_are_there() -> None:
    rows = [row for row in catalog.rows() if row.document]
    text = [row for row in rows if row.modality == "text"]
    assert (len(text), len(rows) - len(text)) == (30, 19)
    assert {row.architecture for row in text if row.lora} == MARKED
    assert [row.architecture for row in rows if row not in text and not row.lora] == [
        "MllamaForConditionalGeneration"
    ]


def test_a_row_has_the_document_s_mark_only_if_the_document_has_the_row() -> None:
    assert all((row.lora is not None) == row.document for row in catalog.rows())


def test_every_row_is_found_by_all_its_names() -> None:
    for row in catalog.rows():
        for name in (row.architecture, *row.aliases):
            assert catalog.find(name, row.examples[-1]) == row


@pytest.mark.parametrize(
    ("label", "models"),
    [
        ("THUDM/chatglm3-6b", ("ChatGLM",)),
        ("THUDM/glm-4v-9b", ("GLM-4V",)),
        ("models/GLM-4v-9B/", ("GLM-4V",)),
        ("my-own", ("ChatGLM",)),
    ],
)
def test_of_two_rows_the_model_s_name_decides(label: str, models: tuple[str, ...]) -> None:
    assert catalog.find("ChatGLMModel", label).models == models


def test_an_unknown_architecture_is_named_with_its_nearest_and_a_way_on() -> None:
    with pytest.raises(UserError) as caught:
        catalog.find("LlamaForCasualLM")
    assert str(caught.value) == (
        "LlamaForCasualLM: not in the catalogue of architectures, perhaps you meant "
        "'LlamaForCausalLM'? Name another as `base.architecture` in the recipe, or add a row to "
        "tasks/core/catalog.yaml"
    )


@pytest.mark.parametrize(
    ("base", "architecture"),
    [
        ("{hub: org/x, architecture: MyForCausalLM}", "MyForCausalLM"),
        ("{hub: meta-llama/Meta-Llama-3-8B-Instruct}", "LlamaForCausalLM"),
        ("{hub: thudm/ChatGLM3-6B}", "ChatGLMModel"),
        ("{hub: stabilityai/stablelm-3b-4e1t}", "StableLmForCausalLM"),
        # The document's own row has a spelling that these files never had.
        ("{hub: allenai/OLMo-1B-hf}", "OlmoForCausalLM"),
    ],
)
def test_recipe_and_examples_tell_the_architecture(
    project: Project, base: str, architecture: str
) -> None:
    assert catalog.of(project.recipe("m", f"base: {base}")) == architecture


def test_a_local_config_tells_the_architecture(project: Project) -> None:
    recipe = local(project, '{"architectures": ["Qwen2ForCausalLM"]}')
    assert catalog.of(recipe) == "Qwen2ForCausalLM"
    assert catalog.row(recipe).models == ("Qwen2",)


@pytest.mark.parametrize(
    ("name", "parser"), [("Hermes-3-Llama-3.1-8B", "hermes"), ("my-own-llama", None)]
)
def test_a_local_model_s_folder_tells_its_tool_parser(
    project: Project, name: str, parser: str | None
) -> None:
    folder = project.recipes / "m" / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    assert catalog.tool_parser(project.recipe("m", f"base: {{path: {name}}}")) == parser


def test_the_built_base_tells_the_architecture(project: Project) -> None:
    project.result("m", "base", {"config.json": b'{"architectures": ["OPTForCausalLM"]}'})
    assert catalog.of(project.recipe("m", "base: {hub: org/unheard-of}")) == "OPTForCausalLM"


def test_where_nothing_tells_the_recipe_is_asked(project: Project) -> None:
    recipe = project.recipe("m", "base: {hub: org/unheard-of}")
    with pytest.raises(UserError, match=r"m\.yaml: org/unheard-of: .* `base\.architecture`"):
        catalog.of(recipe)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, r"m\.yaml: base\.path: no file .*config\.json; .*`base\.architecture`"),
        ('{"a": 1,\n  x}', r"config\.json:2:3: .*; fetch the file again"),
        ("[]", r"config\.json:1:1: should be an object"),
        ("{}", r"config\.json: names no architecture .*`base\.architecture`"),
        ('{"architectures": []}', "names no architecture"),
        ('{"architectures": null}', "names no architecture"),
    ],
)
def test_a_local_config_that_tells_nothing_is_named(
    project: Project, config: str | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        catalog.of(local(project, config))


def test_a_config_that_cannot_be_read_is_named(project: Project) -> None:
    recipe = local(project, None)
    (project.recipes / "m" / "base" / "config.json").mkdir()
    with pytest.raises(UserError, match=r"config\.json: Is a directory; make it a file"):
        catalog.context_length(recipe)


def test_the_recipe_s_word_needs_no_config(project: Project) -> None:
    assert catalog.of(local(project, None, ", architecture: OPTForCausalLM")) == "OPTForCausalLM"


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({"max_position_embeddings": 8192}, 8192),
        ({"seq_length": 8192, "max_position_embeddings": 32768}, 8192),
        ({"n_positions": 1024}, 1024),
        ({"text_config": {"max_position_embeddings": 4096}, "seq_length": 1}, 4096),
        ({"max_position_embeddings": 2048, "rope_scaling": {"type": "linear", "factor": 4}}, 8192),
        (
            {
                "max_position_embeddings": 163840,
                "rope_scaling": {
                    "type": "yarn",
                    "factor": 40,
                    "original_max_position_embeddings": 4096,
                },
            },
            163840,
        ),
        (
            {
                "max_position_embeddings": 131072,
                "rope_scaling": {"rope_type": "llama3", "factor": 8.0},
            },
            131072,
        ),
        ({"max_position_embeddings": 2048, "rope_scaling": None}, 2048),
        ({"max_position_embeddings": None}, None),
        ({}, None),
    ],
)
def test_the_context_length_is_read_as_vllm_reads_it(
    project: Project, config: dict[str, object], length: int | None
) -> None:
    assert catalog.context_length(local(project, json.dumps(config))) == length


def test_without_a_config_the_context_length_is_unknown(project: Project) -> None:
    assert catalog.context_length(project.recipe("m", "base: {hub: org/x}")) is None


def test_a_row_that_a_user_adds_is_read(tmp_path: Path) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(ROW, encoding="utf-8")
    (row,) = catalog.read(path)
    assert (row.architecture, row.lora, row.aliases) == ("NewForCausalLM", None, ())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("  modality: text\n", "", r"yaml:2: missing 1 .*'modality'"),
        ("modality", "modalty", r"yaml:2: got an unexpected keyword argument 'modalty'"),
        ("[New]", "New", r"yaml:2: models: should be a list"),
        ("{first", "{{first", r"yaml:\d+: not YAML"),
        (ROW, "a: 1", r"yaml:1: should be a list of rows"),
        (ROW, "- 1", r"yaml:1: "),
    ],
)
def test_a_broken_row_is_named_with_its_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = tmp_path / "catalog.yaml"
    path.write_text(ROW.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        catalog.read(path)
