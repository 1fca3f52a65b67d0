"""Training on several hosts: run.sh as people start it, where nodes meet, what is refused."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from tasks.core import launching
from tasks.core.engine import manifest
from tasks.core.errors import UserError
from tasks.core.launching import scripts, torchrun
from tasks.core.launching.job import Job
from tests.conftest import Project
from tests.services.process import free_port
from tests.training import wait

from .jobs import job, pretend, set_to

NODE = {"NODE_RANK": "3", "MASTER_ADDR": "node0", "MASTER_PORT": "4000"}


def run_sh(line: list[str], **environ: str) -> subprocess.CompletedProcess[str]:
    variables = {"PATH": os.environ["PATH"], **environ}
    return subprocess.run(line, env=variables, capture_output=True, text=True)


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("", 0))
        server.listen()
        yield int(server.getsockname()[1])


def test_run_sh_starts_a_node_of_the_documents_six(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(project, monkeypatch, 'pwd; echo "$@"; echo "$HF_HUB_OFFLINE ${RANK-none}"')
    six = job(project, "processes: 4, nodes: 6, deepspeed: zero3_offload")

    done = run_sh(torchrun.command(six), RANK="7", **NODE)

    assert done.returncode == 0, done.stderr
    where, words, environ = done.stdout.splitlines()
    assert where == str(project.build / "m")
    assert words.startswith(
        "-m torch.distributed.run --nnodes=6 --nproc-per-node=4 --node-rank=3 "
        "--master-addr=node0 --master-port=4000 "
    )
    assert words.endswith("--launcher pytorch --deepspeed deepspeed_zero3_offload")
    assert environ == "1 none"


@pytest.mark.parametrize(
    ("nodes", "environ", "said"),
    [
        ("4", NODE, "4 nodes, but m.yaml says train.launch.nodes: 6"),
        ("6", {"MASTER_ADDR": "x"}, "set NODE_RANK to the number of this node, 0 to 5"),
        ("6", {"NODE_RANK": "1"}, "set MASTER_ADDR to the host of node 0"),
    ],
)
def test_run_sh_says_what_it_lacks(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    nodes: str,
    environ: dict[str, str],
    said: str,
) -> None:
    pretend(project, monkeypatch, "")
    line = [*torchrun.command(job(project, "nodes: 6"))[:-1], nodes]

    done = run_sh(line, **environ)

    assert done.returncode != 0
    assert said in done.stderr


def test_the_others_are_told_what_to_start(
    project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(project, monkeypatch, 'echo "$@"')
    set_to(monkeypatch, launcher="torchrun", rendezvous_host="node0", rendezvous_port=4001)
    two = job(project, "nodes: 2")
    lines: list[str] = []

    launching.run(two, lines.append)

    assert "--node-rank=0 --master-addr=node0 --master-port=4001" in lines[0]
    told = capsys.readouterr().out
    assert "this is node 0 of 2" in told
    assert f"NODE_RANK=... MASTER_ADDR=node0 MASTER_PORT=4001 bash {project.build}" in told


def test_a_port_that_is_taken_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    set_to(monkeypatch, launcher="torchrun", rendezvous_port=taken)

    with pytest.raises(UserError, match=f"port {taken}, where the nodes are to meet"):
        launching.check(job(project, "nodes: 2"))
    set_to(monkeypatch, rendezvous_port=free_port())
    launching.check(job(project, "nodes: 2"))


@pytest.fixture
def second(project: Project, monkeypatch: pytest.MonkeyPatch) -> Job:
    """The training of the second of two nodes, which got the same command as the first."""
    pretend(project, monkeypatch, f'echo "$@" >> {project.build}/ran')
    set_to(monkeypatch, launcher="torchrun", rendezvous_host="node0", node_rank=1)
    monkeypatch.setattr(torchrun, "PAUSE", 0.01)
    return job(project, "nodes: 2")


def test_a_node_takes_part_in_what_node_0_trains_now_not_in_what_it_did(
    project: Project, second: Job
) -> None:
    ran, key = project.build / "ran", manifest.key_of("train", {})
    scripts.run_sh(replace(second, folder=second.folder.with_name(".train-old")))
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(torchrun.take_part, second, key)
        time.sleep(0.2)
        assert not ran.exists()
        scripts.run_sh(second)
        wait(ran.exists, 20)
        assert not other.done()
        project.result("m", "train", {"iter_1.pth": b""})
        other.result(20)
    assert "--node-rank=1 --master-addr=node0" in ran.read_text()
    assert not second.log.exists()


def test_a_node_gives_up_when_node_0_does_not_train(
    project: Project, second: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchrun, "PATIENCE", 0.05)
    with pytest.raises(UserError, match=r"node 0 did not start \S+run.sh in .*; see what `doit`"):
        torchrun.take_part(second, "")
    set_to(monkeypatch, rendezvous_host="")
    with pytest.raises(UserError, match="node 1 does not know where node 0 is; set MODELWRIGHT_R"):
        torchrun.take_part(second, "")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("node_rank", "2", "NODE_RANK: '2' is no number of a node; say 0 to 1"),
        ("launcher_environ", "no-name=1", "LAUNCHER_ENVIRON: 'no-name' is no name of a variable"),
        ("launcher_environ", "A='b", "LAUNCHER_ENVIRON: No closing quotation"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    pretend(project, monkeypatch, "")
    set_to(monkeypatch, launcher="torchrun", **{name: value})
    two = job(project, "nodes: 2")

    def train() -> None:
        launching.check(two)
        launching.run(two, lambda line: None)

    with pytest.raises(UserError, match=said):
        train()


def test_no_variable_of_ours_is_written_into_a_script(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_s3cret")
    monkeypatch.setenv("https_proxy", "http://user:s3cret@proxy:3128")
    set_to(monkeypatch, s3_secret_key="s3cret", launcher_environ="WANDB_API_KEY=s3cret")

    text = scripts.run_sh(job(project, "processes: 2")).read_text()

    assert "s3cret" not in text
