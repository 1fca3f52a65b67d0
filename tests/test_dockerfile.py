"""The rendered Dockerfile and .dockerignore."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tasks import dockerfile
from tasks.core import paths
from tasks.core.errors import LoadError, UserError
from tasks.core.model import modelfiles
from tasks.core.sources import lockfile
from tests.conftest import Project

GOLDEN = Path(__file__).parent / "golden"
DIGEST = "0" * 64
RECIPES = {
    "chatglm3-6b": """
base: {hub: THUDM/chatglm3-6b, trust_remote_code: true}
image:
  base: vllm/vllm-openai:v0.4.1
  pip: [tiktoken]
  repository: vllm-openai-tiktoken-chatglm3-6b-server
  tag: v2.0.1
""",
    "weights-only": """
base: {hub: Qwen/Qwen2-0.5B}
image: {base: scratch, repository: llms/weights-only, entrypoint: [/bin/sh, -c, "echo \\"$HOME\\""]}
""",
    "on-a-layout": """
base: {hub: Qwen/Qwen2-0.5B}
image:
  base: oci:../vllm
  pip: ["transformers>=4.40,<5", "torch[opt]==2.1.*", "tiktoken==0.6.0+cpu"]
  repository: llms/on-a-layout
""",
    "pinned": f"""
base: {{hub: Qwen/Qwen2-0.5B}}
image: {{base: "registry.local:5000/vllm/vllm-openai@sha256:{DIGEST}", repository: llms/pinned}}
""",
}


def rendered(project: Project, name: str, text: str) -> dict[str, str]:
    folder = project.build / "out"
    folder.mkdir(parents=True)
    dockerfile.run(project.recipe(name, text), folder)
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def instructions(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("name", RECIPES)
def test_the_dockerfile_is_as_agreed(project: Project, name: str) -> None:
    files = rendered(project, name, RECIPES[name])
    assert files["Dockerfile"] == (GOLDEN / f"{name}.Dockerfile").read_text(encoding="utf-8")


def test_the_document_s_instructions_come_out(project: Project) -> None:
    files = rendered(project, "chatglm3-6b", RECIPES["chatglm3-6b"])
    assert instructions(files["Dockerfile"]) == [
        "FROM vllm/vllm-openai:v0.4.1",
        "RUN pip install tiktoken",
        "COPY . /data",
        (
            'ENTRYPOINT ["python3", "-m", "vllm.entrypoints.openai.api_server", '
            '"--model", "/data", "--trust-remote-code"]'
        ),
    ]


def test_docker_ignores_the_list_that_we_leave_out(project: Project) -> None:
    files = rendered(project, "chatglm3-6b", RECIPES["chatglm3-6b"])
    assert instructions(files[".dockerignore"]) == list(modelfiles.LEFT_OUT)
    assert files["Dockerfile.dockerignore"] == files[".dockerignore"]


def test_what_is_rendered_is_what_is_promised(project: Project) -> None:
    recipe = project.recipe("pinned", RECIPES["pinned"])
    assert sorted(dockerfile.task(recipe)["targets"]) == sorted(
        rendered(project, "pinned", RECIPES["pinned"])
    )


def test_no_weights_are_asked_for(project: Project) -> None:
    task = dockerfile.task(project.recipe("pinned", RECIPES["pinned"]))
    assert {path.parent for path in task["file_dep"]} == {paths.TEMPLATES}
    assert all(path.is_file() for path in task["file_dep"])


def test_remote_code_is_trusted_only_where_the_recipe_says_so(project: Project) -> None:
    trusted = project.recipe("chatglm3-6b", RECIPES["chatglm3-6b"])
    assert dockerfile.entrypoint(trusted)[-1] == "--trust-remote-code"
    other = project.recipe("pinned", RECIPES["pinned"])
    assert "--trust-remote-code" not in dockerfile.entrypoint(other)


def test_versions_are_no_redirections_and_no_patterns(project: Project) -> None:
    files = rendered(project, "on-a-layout", RECIPES["on-a-layout"])
    (run,) = [line for line in instructions(files["Dockerfile"]) if line.startswith("RUN")]
    assert shlex.split(run) == [
        *["RUN", "pip", "install"],
        *["transformers>=4.40,<5", "torch[opt]==2.1.*", "tiktoken==0.6.0+cpu"],
    ]
    assert run.count("'") == 4


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pip", "tiktoken; rm -rf /"),
        ("pip", "tiktoken\nRUN id"),
        ("pip", "$(id)"),
        ("pip", "`id`"),
        ("pip", "a && b"),
        ("pip", "a\\"),
        ("pip", "--index-url=http://evil"),
        ("pip", "-rfile"),
        ("pip", "a\n"),
        ("base", "vllm\nRUN id"),
        ("base", "vllm AS x"),
        ("base", "$BASE"),
        ("base", "--platform=linux/arm64"),
        ("base", "vllm:v1\n"),
        ("base", "oci:a\nRUN id"),
        ("base", "vllm@sha256:123"),
    ],
)
def test_nothing_gets_out_of_its_place(project: Project, key: str, value: str) -> None:
    part = {"base": "scratch", "pip": ["tiktoken"], "repository": "llms/m"}
    part[key] = [value] if key == "pip" else value
    text = json.dumps({"base": {"hub": "a/b"}, "image": part})
    with pytest.raises((UserError, LoadError), match=rf"m\.yaml.*image\.{key}"):
        rendered(project, "m", text)


@pytest.mark.parametrize(
    "base",
    ["scratch", "ubuntu", "ubuntu:22.04", "ghcr.io/Org/../x", "localhost:5000/a/b-c__d:V1_x"],
)
def test_which_references_are_a_base(base: str) -> None:
    assert bool(dockerfile.BASE.fullmatch(base)) is ("Org" not in base)


def test_an_entrypoint_stays_json_on_one_line(project: Project) -> None:
    words = ["a\nRUN id", 'say "x"', "back\\slash", "模型"]
    text = json.dumps(
        {
            "base": {"hub": "a/b"},
            "image": {"base": "scratch", "repository": "m", "entrypoint": words},
        }
    )
    *_, last = instructions(rendered(project, "m", text)["Dockerfile"])
    assert json.loads(last.removeprefix("ENTRYPOINT ")) == words


def test_the_engine_s_context_is_the_model_s_folder(project: Project) -> None:
    recipe = project.recipe("chatglm3-6b", RECIPES["chatglm3-6b"])
    assert dockerfile.options(recipe) == [
        *["docker", "build", "-t"],
        "vllm-openai-tiktoken-chatglm3-6b-server:v2.0.1",
    ]
    assert dockerfile.context(recipe) == project.build / "chatglm3-6b/base"


def test_docker_gets_a_local_base_itself_and_not_our_links(project: Project) -> None:
    recipe = project.recipe(
        "m", "base: {path: weights}\nimage: {base: 'oci:vllm', repository: llms/m}\n"
    )
    assert dockerfile.context(recipe) == project.recipes / "m/weights"
    assert dockerfile.base(recipe) == "modelwright-base/m:latest"


def test_an_engine_builds_on_the_digest_that_update_locked(project: Project) -> None:
    text = "base: {hub: a/b}\nimage: {base: 'vllm/vllm-openai:v0.4.1', repository: m, builder: B}\n"
    recipe = project.recipe("m", text.replace("B}", "docker}"))
    assert dockerfile.base(recipe) == "vllm/vllm-openai:v0.4.1"
    before = dockerfile.key(recipe)
    locked = f"docker.io/vllm/vllm-openai:v0.4.1@sha256:{DIGEST}"
    lockfile.update(recipe, "image", base=locked)
    assert dockerfile.base(recipe) == locked
    assert dockerfile.key(recipe) != before
    oci = project.recipe("m", text.replace("B}", "oci}"))
    assert dockerfile.base(oci) == "vllm/vllm-openai:v0.4.1"


def test_a_recipe_without_an_image_has_no_dockerfile(project: Project) -> None:
    assert not dockerfile.wanted(project.recipe("m", "base: {hub: a/b}\n"))
