"""Servers that we start: found again, started anew, stopped; processes and containers."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tasks import serve
from tasks.core import identity, paths
from tasks.core.engine import manifest
from tasks.core.engine.manifest import Manifest
from tasks.core.errors import UserError
from tasks.core.recipe import Recipe
from tasks.core.serving import daemon
from tasks.core.serving.serving import Place
from tasks.core.serving.starting import Start
from tasks.core.xinference import server
from tests.conftest import Project
from tests.services import pythonimage, xinference
from tests.services.docker import Engine
from tests.services.process import free_port
from tests.services.served import FILES, put, recipe, ship, unship

STAND_IN = Path(xinference.__file__)


def stand_in(at: Place, extras: Sequence[str]) -> Start:
    """Return how the stand-in is started in the place of xinference-local."""
    command = [sys.executable, str(STAND_IN), "-H", at.bind, "-p", str(at.port)]
    return Start(command, server.environ(extras))


@pytest.fixture
def own(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Let a server of our own be started, on a port of the test's; stop it."""
    port = free_port()
    put(monkeypatch, serve_port=str(port))
    monkeypatch.setattr(server, "start", stand_in)
    monkeypatch.setattr("tasks.core.toolchains.toolchain.digest", lambda name: "none")
    yield port
    daemon.stop(f"modelwright-xinference-{port}")


def process(port: int) -> daemon.Process | None:
    return daemon.find(f"modelwright-xinference-{port}")


def test_a_server_of_ours_outlives_the_build_and_is_told(
    project: Project, own: int, capsys: pytest.CaptureFixture[str]
) -> None:
    made = recipe(project)
    ship(made)
    found = process(own)
    assert found
    told = capsys.readouterr().out
    assert f"stays when the build is over: process {found.pid}, log {project.build}" in told
    assert os.getsid(found.pid) == found.pid != os.getsid(0)
    ship(made)
    assert process(own) == found


@pytest.mark.parametrize(
    "change",
    [
        {"serve_run": "docker"},
        {"serve_port": "9"},
        {"xinference_endpoint": "http://127.0.0.1:9"},
    ],
)
def test_unship_stops_a_server_of_ours_whatever_the_settings_say_by_now(
    project: Project, own: int, monkeypatch: pytest.MonkeyPatch, change: dict[str, str]
) -> None:
    made = recipe(project)
    ship(made)
    put(monkeypatch, **change)
    assert unship(made) == ""
    assert process(own) is None


def test_a_model_that_goes_elsewhere_leaves_no_server_of_ours_behind(
    project: Project, own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(project)
    ship(made)
    put(monkeypatch, xinference_endpoint=f"http://127.0.0.1:{own}")
    ship(made)
    assert process(own), "the endpoint is this very server"
    put(monkeypatch, xinference_endpoint="")
    ship(made)
    with xinference.running() as other:
        put(monkeypatch, xinference_endpoint=other.url)
        ship(made)
        assert list(other.running) == ["m"]
    assert process(own) is None


@pytest.mark.parametrize("change", [{"serve_run": "docker"}, {"vllm_endpoint": "http://x:1"}])
def test_unship_stops_a_vllm_of_ours_whatever_the_settings_say_by_now(
    project: Project, monkeypatch: pytest.MonkeyPatch, change: dict[str, str]
) -> None:
    made = project.recipe("m", "base: {hub: gpt2}\nserve: {by: vllm}\n")
    daemon.start("modelwright-vllm-m", ["sleep", "99"], {})
    left(made)
    put(monkeypatch, **change)
    assert unship(made) == ""
    assert daemon.find("modelwright-vllm-m") is None


def test_a_server_that_cannot_be_stopped_from_here_keeps_its_receipt(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = project.recipe("m", "base: {hub: gpt2}\nserve: {by: vllm}\n")
    put(monkeypatch, serve_run="docker")
    left(made)
    put(monkeypatch, serve_run="local")
    monkeypatch.setenv("PATH", str(tmp_path))
    said = unship(made)
    receipt = paths.manifest("m", "serve")
    assert "docker: no such program" in said
    assert "was left in modelwright-vllm-m (docker, http://127.0.0.1:8000); if that" in said
    assert f"delete {receipt}" in said
    assert receipt.exists()


def left(made: Recipe) -> None:
    """Have a receipt of a run with today's settings."""
    folder = paths.output("m", "serve")
    folder.mkdir(parents=True)
    inputs = {"recipe": serve.key(made)}
    key = manifest.key_of("serve", inputs)
    manifest.write(Manifest("m", "serve", key, inputs, (), {"uid": "m"}), folder)


def test_a_server_keeps_no_descriptor_of_the_build(project: Project, own: int) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    ship(recipe(project))
    os.close(writing)
    os.set_blocking(reading, False)
    # Its end is reached only when nobody holds the other end any more.
    assert os.read(reading, 1) == b""
    os.close(reading)


def test_a_server_of_ours_that_was_killed_is_started_again(project: Project, own: int) -> None:
    made = recipe(project)
    first = ship(made)
    before = process(own)
    assert before
    os.kill(before.pid, signal.SIGKILL)
    os.waitpid(before.pid, 0)
    assert serve.drifted(made) == f"xinference at http://127.0.0.1:{own} is not running"
    assert ship(made) == first
    after = process(own)
    assert after
    assert after.pid != before.pid
    assert serve.drifted(made) == ""


def test_unship_stops_a_server_of_ours_when_nothing_is_left(project: Project, own: int) -> None:
    made = recipe(project)
    ship(made)
    assert unship(made) == ""
    assert process(own) is None
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", own)) != 0


def test_unship_of_a_server_that_is_not_up_takes_its_registration(
    project: Project, own: int
) -> None:
    home = daemon.folder(f"modelwright-xinference-{own}") / "home/model/v2/llm"
    home.mkdir(parents=True)
    made = recipe(project)
    identity.settle(made)
    for name in ("m", "other"):
        description = f"modelwright:{name}@123456789012/{identity.known(made)}"
        (home / f"{name}.json").write_text(json.dumps({"model_description": description}))
    assert unship(made) == ""
    assert [path.name for path in home.iterdir()] == ["other.json"]


def test_a_server_of_ours_gets_the_account_of_the_settings(
    project: Project, own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, xinference_user="admin", xinference_password="long-password")
    made = recipe(project)
    ship(made)
    assert serve.drifted(made) == ""
    put(monkeypatch, xinference_password="wrong-password")
    assert "Incorrect username or password" in serve.drifted(made)


def test_other_settings_start_a_server_of_ours_anew(
    project: Project, own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(project)
    ship(made)
    before = process(own)
    put(monkeypatch, xinference_user="admin", xinference_password="long-password")
    assert serve.drifted(made) == "xinference runs with other settings"
    ship(made)
    assert process(own) != before
    assert serve.drifted(made) == ""


def test_a_password_that_is_too_short_leaves_no_server(
    project: Project, own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, xinference_user="admin", xinference_password="short")
    with pytest.raises(UserError, match="no account could be made: Password must be at least 8"):
        ship(recipe(project))
    assert process(own) is None


def test_a_port_in_use_is_told(project: Project, own: int) -> None:
    said = rf"127.0.0.1:{own}: Address already in use; set MODELWRIGHT_SERVE_PORT"
    with socket.create_server(("127.0.0.1", own)), pytest.raises(UserError, match=said):
        ship(recipe(project))
    assert process(own) is None


def test_a_server_that_ends_at_once_is_told_with_its_last_words(
    project: Project, own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["/bin/sh", "-c", "echo no such engine; exit 1"]
    monkeypatch.setattr(server, "start", lambda at, extras: Start(command, {}))
    with pytest.raises(UserError, match=r"does not start\n  \| no such engine"):
        ship(recipe(project))


def test_an_open_port_without_a_password_is_refused(
    project: Project, own: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, serve_bind="0.0.0.0")
    with pytest.raises(UserError, match=r"0\.0\.0\.0 is open to others"):
        ship(recipe(project))
    assert process(own) is None


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """An image in which the stand-in is called as Xinference's and vLLM's servers are."""
    if not pythonimage.PYTHON.exists():
        pytest.skip("needs python3.11, for an image; install it with your package manager")
    content = pythonimage.rootfs(STAND_IN, ("xinference-local", "vllm-server"))
    change = 'ENTRYPOINT ["/usr/bin/vllm-server"]'
    engine.docker("import", "-", "standin/xinference:v1", text=content)
    engine.docker("import", "--change", change, "-", "standin/vllm:v1", text=content)
    return "standin/xinference:v1"


@pytest.fixture
def contained(
    project: Project, engine: Engine, image: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    """Let containers be started; the engine has no network but this machine's."""
    port = free_port()
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    put(monkeypatch, serve_run="docker", serve_port=str(port), serve_network="host")
    put(monkeypatch, xinference_image=image)
    yield port
    for name in engine.docker("ps", "-aq").split():
        engine.docker("rm", "-f", name)


@pytest.mark.needs("dockerd", "docker")
def test_xinference_is_run_in_a_container_and_taken_away(
    project: Project, contained: int, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    made = recipe(project)
    first = ship(made)
    name = f"modelwright-xinference-{contained}"
    assert f"container {name}; `doit unship` removes it" in capsys.readouterr().out
    assert serve.drifted(made) == ""
    assert ship(made) == first
    engine.docker("restart", "--time", "0", name)
    assert serve.drifted(made) != ""
    assert ship(made) == first
    engine.docker("rm", "-f", name)
    assert "is not running" in serve.drifted(made)
    assert ship(made) == first
    engine.docker("create", "--name", "theirs", "standin/vllm:v1")
    assert unship(made) == ""
    assert engine.docker("ps", "-a", "--format", "{{.Names}}").split() == ["theirs"]


@pytest.mark.needs("dockerd", "docker")
def test_a_container_gets_the_account_of_the_settings(
    project: Project, contained: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, xinference_user="admin", xinference_password="long-password")
    made = recipe(project)
    ship(made)
    assert serve.drifted(made) == ""
    assert "long-password" not in engine.docker("inspect", f"modelwright-xinference-{contained}")


@pytest.mark.needs("dockerd", "docker")
def test_a_container_of_others_is_left_alone(
    project: Project, contained: int, engine: Engine
) -> None:
    name = f"modelwright-xinference-{contained}"
    engine.docker("create", "--name", name, "standin/vllm:v1")
    with pytest.raises(UserError, match="not made by us; rename or remove it"):
        ship(recipe(project))
    assert name in engine.docker("ps", "-a", "--format", "{{.Names}}")


@pytest.mark.needs("dockerd", "docker")
def test_a_container_of_another_project_is_left_alone(
    project: Project, contained: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, build = f"modelwright-xinference-{contained}", project.build
    marks = ["--label", "modelwright=1", "--label", f"modelwright.build={build}-of-others"]
    engine.docker("create", "--name", name, *marks, "standin/vllm:v1")
    made = recipe(project)
    with pytest.raises(UserError, match=f"{name}: serves the results in {build}-of-others; unship"):
        ship(made)
    assert "serves the results in" in unship(made)
    assert name in engine.docker("ps", "-a", "--format", "{{.Names}}")


@pytest.mark.needs("dockerd", "docker")
def test_an_image_that_is_not_there_leaves_no_container(
    project: Project, contained: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, xinference_image="standin/none:v1")
    with pytest.raises(UserError, match="docker run failed"):
        ship(recipe(project))
    assert engine.docker("ps", "-aq") == ""


@pytest.mark.needs("dockerd", "docker")
def test_our_image_is_served_by_vllm_in_a_container(
    project: Project, contained: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, vllm_api_key="secret-key")
    identity = engine.docker("image", "inspect", "--format", "{{.Id}}", "standin/vllm:v1")
    project.result("m", "base", FILES)
    project.result("m", "image", {"digest": identity.encode()})
    part = "image: {base: 'vllm/vllm-openai:v0.9.0', repository: x/m, builder: docker}"
    text = f"base: {{hub: a/b}}\n{part}\nserve: {{by: vllm, name: tiny, tool_parser: hermes}}\n"
    made = project.recipe("m", text)
    facts = ship(made)["facts"]
    assert (facts["uid"], facts["tools"]) == ("tiny", True)
    assert serve.drifted(made) == ""
    command = json.loads(engine.docker("inspect", "modelwright-vllm-m"))[0]
    assert command["Args"][:4] == ["--served-model-name", "tiny", "--max-model-len", "1024"]
    assert "secret-key" not in " ".join(command["Args"])
    assert unship(made) == ""
    assert engine.docker("ps", "-aq") == ""
