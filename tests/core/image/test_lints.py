"""What is said before an image is built that could not serve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks import adapter, dockerfile
from tasks.core.errors import UserError
from tasks.core.image import lints, versions
from tasks.core.model import modelfiles
from tasks.core.recipe import Recipe
from tests.conftest import Project


def judged(recipe: Recipe) -> list[lints.Finding]:
    command = dockerfile.entrypoint(recipe)
    return list(lints.of_recipe(recipe, command, has_adapter=adapter.wanted(recipe)))


def made(project: Project, architecture: str, base: str, rest: str = "", more: str = "") -> Recipe:
    return project.recipe(
        "m",
        f"base: {{hub: org/m, architecture: {architecture}}}\n{more}"
        f"image: {{base: '{base}', repository: llms/m{rest}}}\n",
    )


@pytest.mark.parametrize(
    ("base", "version"),
    [
        ("vllm/vllm-openai:v0.4.1", (0, 4, 1)),
        ("registry.local:5000/mirror/vllm-openai:0.10.2", (0, 10, 2)),
        ("vllm/vllm-openai:v0.4.0.post1", (0, 4, 0)),
        ("vllm/vllm-openai:latest", None),
        ("scratch", None),
        ("oci:vllm", None),
        ("ubuntu:22.04", None),
    ],
)
def test_the_version_is_the_tag_s(base: str, version: tuple[int, ...] | None) -> None:
    assert versions.of_image(base) == version


@pytest.mark.parametrize(
    ("architecture", "base", "told"),
    [
        ("LlamaForCausalLM", "vllm/vllm-openai:v0.4.1", None),
        ("AquilaForCausalLM", "vllm/vllm-openai:v0.4.1", None),
        ("AquilaForCausalLM", "vllm/vllm-openai:v0.25.0", "until 0.24.0.*take v0.24.0"),
        ("BaiChuanForCausalLM", "vllm/vllm-openai:v0.24.0", "until 0.23.0"),
        ("Qwen2VLForConditionalGeneration", "vllm/vllm-openai:v0.4.1", "from vLLM 0.6"),
        ("Nonesuch", "vllm/vllm-openai:v0.4.1", "not in the catalogue"),
        ("AquilaForCausalLM", "vllm/vllm-openai:latest", None),
    ],
)
def test_an_architecture_that_the_base_cannot_serve_is_an_error(
    project: Project, architecture: str, base: str, told: str | None
) -> None:
    recipe = made(project, architecture, base)
    if told is None:
        assert judged(recipe) == []
        return
    with pytest.raises(UserError, match=told):
        lints.check(recipe, judged(recipe))


def test_an_unknown_architecture_is_a_warning_where_vllm_takes_any(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = made(project, "Nonesuch", "vllm/vllm-openai:v0.11.0")
    lints.check(recipe, judged(recipe))
    assert "warning: image.base: Nonesuch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("version", "parser", "told"),
    [
        ("v0.4.1", "hermes", "does not know --enable-auto-tool-choice, it came with 0.6.0"),
        ("v0.6.0", "hermes", None),
        ("v0.6.0", "llama3_json", "has hermes and mistral only"),
        ("v0.9.2", "llama3_json", None),
        ("v0.9.2", "glm45", "came after vLLM 0.9.2"),
        ("v0.11.0", "glm45", None),
        ("v0.11.0", "hermess", "perhaps you meant 'hermes'"),
        ("v0.6.6", "xlam", "came after vLLM 0.6.6"),
        ("v0.19.0", "lfm2", "came after vLLM 0.19.0"),
        ("v0.22.1", "lfm2", None),
        ("v0.22.1", "nonesuch", "has no such tool parser; correct it, or take a later image.base"),
        ("v0.31.0", "nonesuch", None),
    ],
)
def test_a_tool_parser_must_be_the_version_s(
    project: Project, version: str, parser: str, told: str | None
) -> None:
    rest = f", tool_parser: {parser}"
    recipe = made(project, "LlamaForCausalLM", f"vllm/vllm-openai:{version}", rest)
    texts = [finding.text for finding in judged(recipe) if finding.is_error]
    assert (texts == []) if told is None else (told in texts[0])


@pytest.mark.parametrize(
    ("architecture", "version", "outcome"),
    [
        ("LlamaForCausalLM", "v0.4.1", "fine"),
        ("InternLM2ForCausalLM", "v0.4.1", "error"),
        ("InternLM2ForCausalLM", "v0.10.0", "warning"),
        ("BloomForCausalLM", "v0.10.0", "error"),
    ],
)
def test_an_adapter_is_served_only_where_vllm_has_lora(
    project: Project, architecture: str, version: str, outcome: str
) -> None:
    base, more = f"vllm/vllm-openai:{version}", "adapter: {path: a}\n"
    found = judged(made(project, architecture, base, ", serve: adapter", more))
    outcomes = {(True,): "error", (False,): "warning", (): "fine"}
    assert outcomes[tuple(finding.is_error for finding in found)] == outcome


def test_serving_an_adapter_needs_one(project: Project) -> None:
    recipe = made(project, "LlamaForCausalLM", "scratch", ", serve: adapter")
    with pytest.raises(UserError, match="no adapter to serve"):
        lints.check(recipe, judged(recipe))


def files(folder: Path, **contents: Any) -> list[str]:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        path = folder / name.replace("__", ".")
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return modelfiles.outgoing(folder)


def findings(
    project: Project,
    folder: Path,
    version: str = "v0.11.0",
    trust: bool = False,
    **contents: object,
) -> list[str]:
    names = files(folder, **contents)
    told = ", trust_remote_code: true" if trust else ""
    recipe = project.recipe(
        "m",
        f"base: {{hub: org/m{told}}}\n"
        f"image: {{base: 'vllm/vllm-openai:{version}', repository: m}}\n",
    )
    return [f.text for f in lints.of_files(recipe, folder, names)]


def test_a_pointer_in_the_place_of_weights_is_an_error(project: Project, tmp_path: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
    (text,) = findings(
        project, tmp_path / "m", "v0.4.1", model__safetensors=pointer, config__json={}
    )
    assert "model.safetensors: a Git LFS pointer" in text
    assert "git lfs pull" in text


@pytest.mark.parametrize(
    ("version", "contents", "is_missed"),
    [
        ("v0.11.0", {"tokenizer_config__json": {}}, True),
        ("v0.4.1", {"tokenizer_config__json": {}}, False),
        ("v0.11.0", {"tokenizer_config__json": {"chat_template": "x"}}, False),
        ("v0.11.0", {"tokenizer_config__json": {}, "chat_template__jinja": "x"}, False),
    ],
)
def test_a_missing_chat_template_is_said(
    project: Project, tmp_path: Path, version: str, contents: dict[str, Any], is_missed: bool
) -> None:
    found = findings(project, tmp_path / "m", version, **contents)
    assert any("no chat template" in text for text in found) is is_missed


@pytest.mark.parametrize(
    ("trust", "maps", "told"),
    [
        (True, False, "leave the key out"),
        (True, True, None),
        (False, True, "say `trust_remote_code: true`"),
        (False, False, None),
    ],
)
def test_remote_code_is_trusted_only_where_needed(
    project: Project, tmp_path: Path, trust: bool, maps: bool, told: str | None
) -> None:
    tokenizer = {"chat_template": "x", **({"auto_map": {}} if maps else {})}
    found = findings(project, tmp_path / "m", trust=trust, tokenizer_config__json=tokenizer)
    assert (found == []) if told is None else (told in found[0])


def test_a_disk_that_is_too_small_is_said_before_it_is_full(project: Project) -> None:
    assert list(lints.of_disk(1)) == []
    (finding,) = lints.of_disk(1 << 60)
    assert finding.is_error
    assert "layout: false" in finding.text


def test_files_that_must_share_a_layer_are_said() -> None:
    assert list(lints.of_layers(3, 90, 3)) == []
    (finding,) = lints.of_layers(90, 90, 120)
    assert not finding.is_error
