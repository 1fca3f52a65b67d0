"""`docker run` as it is written; tests/core/serving/test_servers.py runs it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from tasks.core.errors import UserError
from tasks.core.serving import container, daemon
from tasks.core.serving.serving import Place
from tasks.core.xinference import server
from tests.conftest import Project
from tests.services.served import put


def test_the_document_s_command_is_kept_but_for_its_faults(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, xinference_image="registry.cn-hangzhou.aliyuncs.com/xprobe_xinference/x:v4")
    at = Place("xinference", "docker", "http://127.0.0.1:9997", "127.0.0.1", 9997)
    words = server.run(at, [])
    text = " ".join(words)
    home = daemon.folder(at.name).absolute()
    assert text.startswith("docker run -d --name modelwright-xinference-9997")
    # The document maps the port to one on which nothing listens, and opens it to everybody.
    assert "-p 127.0.0.1:9997:9997" in text
    assert f"-v {home}/home:/root/.xinference" in text
    assert f"-v {home}/cache/huggingface:/root/.cache/huggingface" in text
    assert f"-v {home}/cache/modelscope:/root/.cache/modelscope" in text
    assert f"-v {project.build}:/models:ro" in text
    assert text.endswith("/x:v4 xinference-local -H 0.0.0.0 -p 9997")


@pytest.mark.parametrize(
    ("gpus", "word"), [("", None), ("all", "all"), ("device=0", "device=0"),
                       ("device=0,1", '"device=0,1"')],
)  # fmt: skip
def test_gpus_are_written_as_docker_reads_them(gpus: str, word: str | None) -> None:
    words = container.command("n", "i", gpus=gpus)
    assert (words[words.index("--gpus") + 1] if "--gpus" in words else None) == word


def test_a_secret_stays_out_of_the_list_of_processes() -> None:
    words = container.command("n", "i", environ={"VLLM_API_KEY": "", "A": "b"})
    assert words[words.index("VLLM_API_KEY") - 1] == "-e"
    assert "A=b" in words


def test_xinference_in_a_container_fetches_engines_as_we_would(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = Place("xinference", "docker", "http://127.0.0.1:9997", "127.0.0.1", 9997)
    for name in container.FETCHING:
        monkeypatch.delenv(name, raising=False)
    bare = server.run(at, [])
    monkeypatch.setenv("https_proxy", "http://me:s3cret@10.10.9.50:3000")
    monkeypatch.setenv("PIP_INDEX_URL", "https://me:s3cret@mirror/simple")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:7890")  # the container's own, in there
    words = server.run(at, [])
    named = [word for name, word in pairwise(words) if name == "-e"]
    assert {"https_proxy", "PIP_INDEX_URL"} < set(named)
    assert "http_proxy" not in named
    assert "s3cret" not in " ".join(words)
    # A server that serves models is not started anew for them.
    assert container.label(words) == container.label(bare)
    put(monkeypatch, serve_network="host")
    assert "http_proxy" in server.run(at, [])


def test_the_host_s_own_network_publishes_no_port() -> None:
    assert "-p" not in container.command("n", "i", port=("127.0.0.1", 1, 2), network="host")


def test_another_command_has_another_mark() -> None:
    one, two = container.command("n", "i"), container.command("n", "i", ["x"])
    assert container.label(one) != container.label(two)


# A Docker client that notes what it is told, and has the networks that every engine has; another
# client makes the network just before it.
CLIENT = """#!/bin/sh
echo "$*" >> "$DOCKER_ASKED"
case "$*" in
"network ls "*) printf 'bridge\\nhost\\nnone\\nmodelwright-old\\n'; cat "$DOCKER_ASKED.made";;
"network create "*) echo modelwright >> "$DOCKER_ASKED.made"; exit $DOCKER_RACE;;
*"--network theirs "*) echo "docker: Error: network theirs not found." >&2; exit 125;;
esac
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in which that client notes what it is told."""
    client, noted = tmp_path / "docker", tmp_path / "asked"
    client.write_text(CLIENT)
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("DOCKER_ASKED", str(noted))
    monkeypatch.setenv("DOCKER_RACE", "0")
    (tmp_path / "asked.made").touch()
    return noted


@pytest.mark.parametrize(
    ("network", "made"),
    [
        ("modelwright", ["--label com.docker.compose.network=modelwright modelwright"]),
        ("modelwright-old", []),
        ("elsewhere", []),
        ("host", []),
        ("default", []),
        ("container:theirs", []),
        ("", []),
    ],
)
def test_the_network_of_our_compose_files_is_made_as_compose_takes_it(
    asked: Path, network: str, made: list[str]
) -> None:
    container.start(container.command("n", "i", network=network), {})
    lines = asked.read_text().splitlines()
    began = "network create "
    assert [line.removeprefix(began) for line in lines if line.startswith(began)] == made
    assert lines[-1].startswith("run -d --name n")


def test_a_network_that_another_server_makes_meanwhile_is_taken(
    asked: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_RACE", "1")
    container.start(container.command("n", "i", network="modelwright"), {})
    assert asked.read_text().splitlines()[-1].startswith("run -d --name n")


def test_a_network_of_theirs_that_is_missing_is_named_with_the_command(asked: Path) -> None:
    with pytest.raises(UserError, match="no network 'theirs'; make it by `docker network create t"):
        container.start(container.command("n", "i", network="theirs"), {})
