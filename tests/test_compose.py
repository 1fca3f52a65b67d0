"""The compose files: what they hold, and that docker-compose takes them."""

from __future__ import annotations

import os
import subprocess
from typing import Any

import pytest
import yaml

from tasks import compose
from tasks.core import pins
from tasks.core.engine import stage
from tasks.core.sources import lockfile
from tests.conftest import Project
from tests.services import images
from tests.services.process import free_port
from tests.services.registry import Registry
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


@pytest.mark.needs("docker-registry", "busybox")
def test_update_pins_the_image_by_the_digest_of_its_registry(
    project: Project,
    other_registry: Registry,
    stand_in: tuple[bytes, bytes, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = f"{other_registry.host}/xprobe/xinference:v4.1.0"
    first = images.put(other_registry.host, "xprobe/xinference", "v4.1.0", stand_in)
    put(monkeypatch, xinference_image=name)
    text = written(project, "by: xinference")
    assert service(text)["image"] == name
    told = capsys.readouterr().out
    assert "   1 image by tag alone; `doit update:m` pins" in told
    recipe = project.recipe("m", "base: {hub: a/b}\nserve: {by: xinference}\n")
    compose.update(recipe)
    assert f"   {name}: {first}" in capsys.readouterr().out
    assert not stage.is_fresh("compose", compose, recipe)
    assert service(written(project, "by: xinference"))["image"] == f"{name}@{first}"
    assert "by tag alone" not in capsys.readouterr().out
    # A tag that moves changes nothing until it is looked up anew.
    layer = images.image(b"\0" * 1024)
    second = images.put(other_registry.host, "xprobe/xinference", "v4.1.0", layer)
    assert stage.is_fresh("compose", compose, recipe)
    compose.update(recipe)
    assert service(written(project, "by: xinference"))["image"] == f"{name}@{second}"


@pytest.mark.needs("docker-registry", "busybox")
def test_a_registry_that_does_not_tell_keeps_no_other_from_telling(
    project: Project,
    other_registry: Registry,
    stand_in: tuple[bytes, bytes, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tasks.core.image.registry.PAUSES", (0.0,))
    there = f"{other_registry.host}/x/there:v1"
    digest = images.put(other_registry.host, "x/there", "v1", stand_in)
    down = f"127.0.0.1:{free_port()}/x/down:v1"
    named = f"x/named:v1@{digest}"
    recipe = project.recipe("m", "base: {hub: a/b}\nserve: {}\n")
    pins.update(recipe, [down, there, named])
    told = capsys.readouterr().out
    assert f"   {down}: no digest; 127.0.0.1:" in told
    found = [pins.pinned(recipe, name) for name in (down, there, named)]
    assert found == [down, f"{there}@{digest}", named]
    # What was found before stays, when the registry has the image no more.
    gone = f"{other_registry.host}/x/gone:v1"
    lockfile.update(recipe, pins.PART, **{gone: digest})
    pins.update(recipe, [gone, there])
    assert capsys.readouterr().out == f"   {gone}: no such image there\n"
    assert pins.pinned(recipe, gone) == f"{gone}@{digest}"


def test_an_image_that_was_pushed_is_named_by_its_digest(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, registry="registry.local:5000")
    assert service(written(project, "by: vllm", VLLM))["image"] == "registry.local:5000/x/m:v1"
    pushed = f"registry.local:5000/x/m:v1@sha256:{64 * '0'}"
    project.result("m", "push", {"reference": pushed.encode()}, {"reference": pushed})
    assert service(written(project, "by: vllm", VLLM))["image"] == pushed
    put(monkeypatch, registry="elsewhere:5000")
    assert service(written(project, "by: vllm", VLLM))["image"] == "elsewhere:5000/x/m:v1"


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
