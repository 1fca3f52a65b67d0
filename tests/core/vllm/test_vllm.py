"""The model in vLLM: at an endpoint that is there, or by a program of this machine."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import serve
from tasks.core import catalog
from tasks.core.errors import UserError
from tasks.core.recipe import Recipe
from tasks.core.serving import daemon
from tasks.core.vllm import server
from tests.conftest import Project
from tests.services import xinference
from tests.services.process import free_port
from tests.services.served import put, recipe, ship, unship
from tests.services.xinference import Xinference

BY = "by: vllm, name: tiny"


@pytest.fixture
def there(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Xinference]:
    """A vLLM that serves `tiny`."""
    with xinference.running() as served:
        served.running = xinference.vllm("tiny", "").running
        put(monkeypatch, vllm_endpoint=served.url)
        yield served


def test_a_vllm_that_is_there_is_asked_and_left(project: Project, there: Xinference) -> None:
    made = recipe(project, BY)
    facts = ship(made)["facts"]
    assert (facts["uid"], facts["tools"]) == ("tiny", False)
    assert serve.drifted(made) == ""
    assert unship(made) == ""
    assert there.did() == []
    assert "tiny" in there.running


def test_tools_are_used_at_an_endpoint_when_the_recipe_says_so(
    project: Project, there: Xinference
) -> None:
    assert ship(recipe(project, f"{BY}, tool_parser: hermes"))["facts"]["tools"] is True


def test_a_vllm_that_serves_others_is_told_with_the_command(
    project: Project, there: Xinference
) -> None:
    said = "serves tiny, not 'm'; start it as `vllm serve MODEL --served-model-name m --max-model"
    with pytest.raises(UserError, match=said):
        ship(recipe(project, "by: vllm"))


def test_what_is_no_longer_served_is_found_out(project: Project, there: Xinference) -> None:
    made = recipe(project, BY)
    ship(made)
    there.restart()
    assert serve.drifted(made) == "tiny is not served"


def test_a_key_is_shown_and_a_wrong_one_told(
    project: Project, there: Xinference, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.wants_login, there.keys = True, {"right-key"}
    put(monkeypatch, vllm_api_key="right-key")
    made = recipe(project, BY)
    ship(made)
    assert serve.drifted(made) == ""
    put(monkeypatch, vllm_api_key="wrong-key")
    assert "Could not validate credentials" in serve.drifted(made)
    assert "wrong-key" not in serve.drifted(made)


@pytest.fixture
def program(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A program `vllm` on PATH; the server that it starts is stopped."""
    folder, port = tmp_path / "bin", free_port()
    folder.mkdir()
    stand_in = Path(xinference.__file__).absolute()
    (folder / "vllm").write_text(f'#!/bin/sh\nexec {sys.executable} {stand_in} "$@"\n')
    (folder / "vllm").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=":")
    put(monkeypatch, serve_port=str(port), vllm_api_key="a-key")
    yield port
    daemon.stop("modelwright-vllm-m")


def command(recipe: Recipe) -> list[str]:
    found = daemon.find("modelwright-vllm-m")
    assert found
    return Path(f"/proc/{found.pid}/cmdline").read_text().split("\0")


def test_vllm_serve_is_started_and_stopped(project: Project, program: int) -> None:
    made = recipe(project, BY)
    ship(made)
    words = command(made)
    assert words[words.index("serve") + 1] == str(project.build / "m/base")
    assert words[words.index("--served-model-name") + 1] == "tiny"
    assert "a-key" not in " ".join(words)
    assert serve.drifted(made) == ""
    assert unship(made) == ""
    assert daemon.find("modelwright-vllm-m") is None


def test_other_weights_start_vllm_anew(project: Project, program: int) -> None:
    from tasks.core.engine import stage

    made = recipe(project, BY)
    ship(made)
    before = daemon.find("modelwright-vllm-m")
    stage.clean("base", made)
    ship(recipe(project, BY, {"extra.json": b"{}"}))
    assert daemon.find("modelwright-vllm-m") != before


def test_no_vllm_is_told(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    put(monkeypatch, serve_port=str(free_port()))
    with pytest.raises(UserError, match="set MODELWRIGHT_TOOLCHAIN_VLLM to a Python that has it"):
        ship(recipe(project, BY))


def test_a_container_needs_an_image(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    put(monkeypatch, serve_run="docker")
    with pytest.raises(UserError, match="vLLM is served by a container of our image"):
        server.image(recipe(project, BY))


@pytest.mark.parametrize(
    ("base", "parser"),
    [("vllm/vllm-openai:v0.4.1", None), ("vllm/vllm-openai:v0.6.6", "hermes"), ("own:v1", None)],
)
def test_the_catalogue_s_parser_is_for_images_whose_vllm_has_parsers(
    project: Project, monkeypatch: pytest.MonkeyPatch, base: str, parser: str | None
) -> None:
    put(monkeypatch, serve_run="docker")
    text = "base: {hub: Qwen/Qwen2-beta-7B}\nserve: {by: vllm}\n"
    image = f"image: {{base: '{base}', repository: x/m}}\n"
    assert server.tool_parser(project.recipe("m", text + image)) == parser


@pytest.mark.parametrize(
    ("hub", "parser"),
    [
        ("meta-llama/Meta-Llama-3-8B-Instruct", None),
        ("NousResearch/Hermes-3-Llama-3.1-8B", "hermes"),
        ("mistralai/Mistral-7B-v0.1", "mistral"),
        ("nobody/knows-it", None),
    ],
)
def test_the_catalogue_knows_parsers_by_architecture_and_name(
    project: Project, hub: str, parser: str | None
) -> None:
    architecture = "" if parser != "hermes" else ", architecture: LlamaForCausalLM"
    recipe = project.recipe("m", f"base: {{hub: {hub}{architecture}}}\n")
    assert catalog.tool_parser(recipe) == parser
