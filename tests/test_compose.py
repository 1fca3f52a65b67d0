"""The compose files: what they hold, and that docker-compose takes them."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
import yaml

from tasks import compose
from tasks.core.engine import stage
from tests.conftest import Project
from tests.services.served import put

VLLM = "image: {base: 'vllm/vllm-openai:v0.9.0', repository: x/m, tag: v1}\n"


def written(project: Project, serve: str, more: str = "") -> str:
    recipe = project.recipe("m", f"base: {{hub: a/b}}\nserve: {{{serve}}}\n{more}")
    stage.execute("compose", compose, recipe)
    return (project.build / "m/compose/compose.yaml").read_text()


def service(text: str) -> Any:
    return next(iter(yaml.safe_load(text)["services"].values()))


def test_xinference_sees_the_model_and_is_bound_to_this_machine(project: Project) -> None:
    made = service(written(project, "by: xinference"))
    assert made["command"] == ["xinference-local", "-H", "0.0.0.0", "-p", "9997"]
    assert made["ports"] == ["${BIND_ADDRESS:-127.0.0.1}:9997:9997"]
    assert made["volumes"][0] == "../..:/models:ro"
    assert "/status" in made["healthcheck"]["test"][-1]
    assert made["deploy"]["resources"]["reservations"]["devices"][0]["count"] == "all"


def test_vllm_gets_the_image_and_the_parser_of_the_catalogue(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, registry="registry.local:5000", serve_run="docker")
    text = f"base: {{hub: Qwen/Qwen2-beta-7B}}\n{VLLM}serve: {{by: vllm, context_length: 512}}"
    stage.execute("compose", compose, project.recipe("m", text))
    made = service((project.build / "m/compose/compose.yaml").read_text())
    assert made["image"] == "registry.local:5000/x/m:v1"
    words = made["command"]
    assert words[words.index("--tool-call-parser") + 1] == "hermes"
    assert words[words.index("--max-model-len") + 1] == "512"
    assert words[words.index("--served-model-name") + 1] == "m"


def test_without_gpus_none_is_asked_for(project: Project) -> None:
    assert "deploy" not in service(written(project, "gpus: null"))


def test_the_user_s_own_folder_is_mounted_where_the_links_are(project: Project) -> None:
    (project.recipes / "m/own").mkdir(parents=True)
    recipe = project.recipe("m", "base: {path: own}\nserve: {name: x}\n")
    stage.execute("compose", compose, recipe)
    folder = project.build / "m/compose"
    made = service((folder / "compose.yaml").read_text())
    own = next(each for each in made["volumes"] if each.endswith(":/models/m/base:ro"))
    assert (folder / own.partition(":")[0]).resolve() == (project.recipes / "m/own").resolve()


def test_no_secret_and_no_path_of_this_machine_is_in_it(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, vllm_api_key="secret-1", xinference_password="secret-2")
    for serve, more in (("by: xinference", ""), ("by: vllm", VLLM)):
        text = written(project, serve, more)
        assert "secret" not in text
        assert str(project.build) not in text


@pytest.mark.needs("docker-compose")
@pytest.mark.parametrize(("serve", "more"), [("by: xinference", ""), ("by: vllm", VLLM)])
def test_docker_compose_takes_it(project: Project, serve: str, more: str) -> None:
    written(project, serve, more)
    command = ["docker-compose", "-f", str(project.build / "m/compose/compose.yaml"), "config"]
    environ = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, done.stderr
    assert "127.0.0.1:" in done.stdout
