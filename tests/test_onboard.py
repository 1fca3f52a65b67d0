"""The model centre's record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks import onboard
from tasks.core import paths, settings
from tasks.core.engine import manifest
from tasks.core.errors import UserError
from tests.conftest import Project

LLAMA = """
base: {hub: meta-llama/Meta-Llama-3-8B-Instruct, trust_remote_code: true}
image: {base: "vllm/vllm-openai:v0.4.1", repository: llms/llama3-8b-agentflan, tag: v2.0.1}
onboard: {mount: /root/llms/llama3}
"""
MOUNTED = "base: {hub: THUDM/chatglm3-6b}\nonboard: {}\n"


def files(project: Project, text: str, name: str = "m") -> tuple[dict[str, Any], str]:
    """Return record.json, read, and record.md."""
    folder = project.build / "out"
    folder.mkdir(parents=True, exist_ok=True)
    onboard.run(project.recipe(name, text), folder)
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    return record, (folder / "record.md").read_text(encoding="utf-8")


def set_registry(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MODELWRIGHT_REGISTRY", value)
    settings.current.cache_clear()


def test_only_a_recipe_that_asks_gets_a_record(project: Project) -> None:
    assert onboard.wanted(project.recipe("m", MOUNTED))
    assert not onboard.wanted(project.recipe("n", "base: {hub: THUDM/chatglm3-6b}"))


def test_the_record_is_made_without_weights(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_registry(monkeypatch, "registry.local:5000/team/")
    record, _ = files(project, LLAMA, "llama3-8b-agentflan")
    assert record == {
        "name": "llama3-8b-agentflan",
        "architecture": "LlamaForCausalLM",
        "models": ["LLaMA", "Llama 2", "Meta Llama 3", "Vicuna", "Alpaca", "Yi"],
        "modality": "text",
        "document": True,
        "lora": {"document": True, "now": True},
        "vllm": {"first": "0.1.0", "last": None},
        "context_length": None,
        "trust_remote_code": True,
        "note": "",
        "load": {
            "mount": {"path": "/root/llms/llama3", "image": "vllm/vllm-openai:v0.4.1"},
            "image": {
                "reference": "registry.local:5000/team/llms/llama3-8b-agentflan:v2.0.1",
                "registry": "registry.local:5000/team",
            },
        },
    }


def test_the_page_has_the_form_s_own_words(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_registry(monkeypatch, "registry.local:5000")
    _, page = files(project, LLAMA, "llama3")
    assert page == (
        "# 接入模型 Model onboarding: llama3\n\n"
        "- 模型 Model: `llama3`\n"
        "- 架构 Architecture: `LlamaForCausalLM` "
        "(LLaMA, Llama 2, Meta Llama 3, Vicuna, Alpaca, Yi)\n"
        "- 模态 Modality: text\n"
        "- LoRA, 文档 by the document: 是 yes\n"
        "- LoRA, 最新 vLLM in the newest vLLM: 是 yes\n"
        "- vLLM: 0.1.0 – 最新 newest\n"
        "- 允许远程代码 Trust remote code: 是 yes\n\n"
        "## 加载方式：文件挂载 Load mode: file mount\n\n"
        "- 模型路径 Model path: `/root/llms/llama3`\n"
        "- 运行镜像 Image that serves it: `vllm/vllm-openai:v0.4.1`\n\n"
        "## 加载方式：镜像加载 Load mode: image\n\n"
        "- 镜像 Image: `registry.local:5000/llms/llama3-8b-agentflan:v2.0.1`\n"
    )


def test_the_mount_is_the_workers_folder_unless_given(project: Project) -> None:
    record, page = files(project, MOUNTED, "chatglm3-6b")
    assert record["load"]["mount"]["path"] == "/root/llms/chatglm3-6b"
    assert record["load"]["image"] is None
    assert "镜像加载" not in page


QWEN = "base: {hub: Qwen/Qwen3-8B}\n"
WEIGHTS = "image: {base: scratch, repository: x, tool_parser: hermes}\n"
EARLY, LATE, NEW = (WEIGHTS.replace("hermes", name) for name in ("xlam", "qwen3_coder", "lfm2"))
NONESUCH = WEIGHTS.replace("hermes", "nonesuch")
TOOLS = ["--enable-auto-tool-choice"]


@pytest.mark.parametrize(
    ("text", "image", "arguments"),
    [
        (MOUNTED, "v0.4.1", []),
        (QWEN + "onboard: {}\n", "v0.8.4", []),
        ("base: {hub: allenai/OLMo, architecture: OLMoForCausalLM}\nonboard: {}\n", "v0.4.1", []),
        (LLAMA, "v0.4.1", ["--trust-remote-code"]),
        (MOUNTED + WEIGHTS, "v0.6.6", [*TOOLS, "--tool-call-parser=hermes"]),
        (MOUNTED + EARLY, "v0.9.2", [*TOOLS, "--tool-call-parser=xlam"]),
        (QWEN + "onboard: {}\n" + LATE, "v0.19.0", [*TOOLS, "--tool-call-parser=qwen3_coder"]),
        (QWEN + "onboard: {}\n" + NEW, "v0.22.1", [*TOOLS, "--tool-call-parser=lfm2"]),
        (QWEN + "onboard: {runtime: own/vllm:v1}\n", "own/vllm:v1", []),
    ],
)  # fmt: skip
def test_mounted_files_are_served_by_a_vllm_that_can(
    project: Project, text: str, image: str, arguments: list[str]
) -> None:
    found = onboard.description(project.recipe("m", text))
    assert found.runtime == (image if ":" in image else f"vllm/vllm-openai:{image}")
    assert list(found.arguments) == arguments


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (MOUNTED, "0.2.2"),
        (MOUNTED + WEIGHTS, "0.6.6"),
        (QWEN + "onboard: {}\n" + WEIGHTS, "0.8.4"),
        (QWEN + "onboard: {runtime: own/vllm:v1}\n" + LATE, "0.19.0"),
        (QWEN + "onboard: {runtime: vllm/vllm-openai:v0.10.1}\n" + LATE, "0.10.1"),
        (QWEN + "onboard: {runtime: vllm/vllm-openai:v0.30.0}\n" + NONESUCH, "0.30.0"),
    ],
)
def test_the_centre_is_told_a_version_that_knows_architecture_and_arguments(
    project: Project, text: str, version: str
) -> None:
    assert onboard.description(project.recipe("m", text)).version == version


@pytest.mark.parametrize(
    ("runtime", "told"),
    [
        (
            "v0.8.4",
            "qwen3_coder came after vLLM 0.9.2, and onboard.runtime has 0.8.4; take a later",
        ),
        ("v0.4.1", "does not know --tool-call-parser, it came with 0.6.0; take a later onboard"),
        ("v0.19.0", None),
        ("latest", None),
    ],
)
def test_a_runtime_that_does_not_know_the_parser_is_refused(
    project: Project, runtime: str, told: str | None
) -> None:
    text = f"{QWEN}onboard: {{runtime: 'vllm/vllm-openai:{runtime}'}}\n{LATE}"
    if told is None:
        assert files(project, text)
        return
    with pytest.raises(UserError, match=told):
        files(project, text)


def test_without_a_registry_the_record_says_so(project: Project) -> None:
    record, page = files(project, LLAMA)
    assert record["load"]["image"] == {
        "reference": "llms/llama3-8b-agentflan:v2.0.1",
        "registry": None,
    }
    assert "MODELWRIGHT_REGISTRY" in page


def test_a_registry_that_is_a_url_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_registry(monkeypatch, "https://registry.local")
    with pytest.raises(UserError, match=r"^MODELWRIGHT_REGISTRY: .*host\[:port\]"):
        onboard.key(project.recipe("m", LLAMA))


def test_the_context_length_comes_from_a_local_config(project: Project) -> None:
    folder = project.recipes / "m" / "base"
    folder.mkdir(parents=True)
    config = {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 2048}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    record, page = files(project, "base: {path: base}\nonboard: {}\n")
    assert record["context_length"] == 2048
    assert "Context length: 2048" in page


@pytest.mark.parametrize(
    ("base", "line"),
    [
        ("{hub: Qwen/Qwen-7B}", "LoRA, 最新 vLLM in the newest vLLM: —"),
        ("{hub: Qwen/Qwen-7B}", "vLLM: 0.1.4 – 0.23.0"),
        ("{hub: gpt2}", "LoRA, 文档 by the document: 否 no"),
        ("{hub: Qwen/Qwen3-8B}", "(Qwen3), 不在文档列表中 not in the document's list"),
        ("{hub: THUDM/glm-4v-9b}", "模态 Modality: image"),
        ("{hub: THUDM/glm-4v-9b}", "说明 Note: From vLLM 0.7.3"),
    ],
)
def test_the_page_tells_what_the_catalogue_knows(project: Project, base: str, line: str) -> None:
    _, page = files(project, f"base: {base}\nonboard: {{}}\n")
    assert line in page


def test_an_architecture_that_nobody_knows_is_refused(project: Project) -> None:
    recipe = project.recipe("m", "base: {hub: org/x, architecture: Nope}\nonboard: {}\n")
    with pytest.raises(UserError, match="Nope: not in the catalogue"):
        onboard.key(recipe)


@pytest.mark.parametrize(
    ("text", "wakes"),
    [
        (LLAMA.replace("v2.0.1", "v2.0.2"), True),
        (LLAMA.replace("/root/llms/llama3", "/root/llms/other"), True),
        (LLAMA.replace(", trust_remote_code: true", ""), True),
        (LLAMA.replace("v0.4.1", "v0.5.0"), True),
        (LLAMA + "evaluate: {prompts: p.jsonl}\n", False),
    ],
)
def test_only_what_the_record_holds_wakes_the_stage(
    project: Project, text: str, wakes: bool
) -> None:
    before = onboard.key(project.recipe("m", LLAMA))
    assert (onboard.key(project.recipe("m", text)) != before) is wakes


def test_another_registry_wakes_the_stage(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = project.recipe("m", LLAMA)
    before = onboard.key(recipe)
    set_registry(monkeypatch, "registry.local")
    assert onboard.key(recipe) != before


def test_the_facts_name_both_ways(project: Project, tmp_path: Path) -> None:
    assert onboard.run(project.recipe("m", LLAMA), tmp_path) == {
        "architecture": "LlamaForCausalLM",
        "mount": "/root/llms/llama3",
        "image": "llms/llama3-8b-agentflan:v2.0.1",
    }


def test_the_task_s_files_are_those_that_are_made(project: Project) -> None:
    recipe = project.recipe("m", MOUNTED)
    task = onboard.task(recipe)
    project.build.mkdir()
    onboard.run(recipe, project.build)
    made = [path.relative_to(project.build).as_posix() for path in manifest.walk(project.build)]
    assert sorted(task["targets"]) == sorted(made)
    assert all((paths.ROOT / path).is_file() for path in task["file_dep"])
