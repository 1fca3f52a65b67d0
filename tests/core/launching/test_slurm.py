"""Slurm's side of a training: what is refused, what a job may see, how it ends.

The cluster is a real one; only the training is made up.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks.core import launching
from tasks.core.errors import CommandFailed, UserError
from tasks.core.launching import cluster, follower, slurm
from tasks.core.launching.cluster import State
from tests.conftest import Project
from tests.services.slurm import Slurm
from tests.training import wait

from .jobs import job, pretend, set_to

Pretend = Callable[[str], None]


@pytest.fixture
def there(project: Project, monkeypatch: pytest.MonkeyPatch, slurm_cluster: Slurm) -> Pretend:
    """Put a script in the place of training, on the nodes of the cluster."""
    monkeypatch.setenv("SLURM_CONF", slurm_cluster.environ["SLURM_CONF"])
    set_to(monkeypatch, launcher="slurm", slurm_gres="none")
    monkeypatch.setattr(follower, "ASK", 0.5)

    def put(script: str) -> None:
        pretend(project, monkeypatch, script)

    return put


def test_lines_of_all_nodes_come_and_end_in_the_stages_log(
    project: Project, there: Pretend
) -> None:
    there('for n in 1 2 3; do echo "line $n of node $SLURM_NODEID"; sleep 0.2; done')
    two = job(project, "nodes: 2")
    lines: list[str] = []

    launching.run(two, lines.append)

    assert sorted(lines) == [f"line {n} of node {m}" for n in (1, 2, 3) for m in (0, 1)]
    assert two.log.read_text().splitlines() == lines
    assert not (two.folder / slurm.NOTE).exists()


def test_a_job_sees_what_it_needs_and_no_secret(
    project: Project, there: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("NCCL_DEBUG", "INFO")
    set_to(monkeypatch, launcher_environ="NCCL_SOCKET_IFNAME=ib0", s3_secret_key="s3cret")
    there("env")
    lines: list[str] = []

    launching.run(job(project), lines.append)

    wanted = {"https_proxy=http://proxy:3128", "NCCL_DEBUG=INFO", "NCCL_SOCKET_IFNAME=ib0"}
    assert wanted < set(lines)
    assert not [line for line in lines if "s3cret" in line]


@pytest.mark.parametrize(
    ("settings", "launch", "said"),
    [
        ({"slurm_partition": "long"}, "nodes: 2", "SLURM_PARTITION: there is debug"),
        ({"slurm_gres": "dcu"}, "nodes: 2", "SLURM_GRES: say what the cluster calls its devices"),
        ({}, "nodes: 3", r"would wait for ever \(Partition\w+\): lower train.launch.proc"),
        ({"slurm_options": "--mem=900G"}, "nodes: 1", "too large; lower train.launch.processes"),
        ({"slurm_options": "--no-such"}, "nodes: 1", "correct MODELWRIGHT_SLURM_OPTIONS"),
        ({"slurm_options": "--comment='x"}, "nodes: 1", "SLURM_OPTIONS: No closing quotation"),
    ],
)
def test_what_the_cluster_cannot_do_is_refused_with_a_cure(
    project: Project,
    there: Pretend,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, str],
    launch: str,
    said: str,
) -> None:
    there("exit 0")
    set_to(monkeypatch, **settings)

    with pytest.raises(UserError, match=said):
        launching.run(job(project, launch), print)


def test_a_failure_on_a_node_shows_its_last_words(project: Project, there: Pretend) -> None:
    there("echo 'ValueError: on a node'; exit 3")

    with pytest.raises(CommandFailed, match=r"ended as FAILED \(3\) on n1") as caught:
        launching.run(job(project), lambda line: None)

    assert "  | ValueError: on a node" in str(caught.value)
    assert "srun: error" not in str(caught.value)


def test_a_job_that_somebody_cancels_is_a_failure_that_says_so(
    project: Project, there: Pretend, slurm_cluster: Slurm
) -> None:
    there("echo started; sleep 60")
    one = job(project)

    def cancel(line: str) -> None:
        slurm_cluster.call("scancel", (one.folder / slurm.NOTE).read_text())

    with pytest.raises(CommandFailed, match="ended as CANCELLED") as caught:
        launching.run(one, cancel)
    assert "somebody cancelled it; run doit again" in str(caught.value)


def test_a_job_whose_node_goes_down_for_good_says_so(
    project: Project, there: Pretend, monkeypatch: pytest.MonkeyPatch, slurm_cluster: Slurm
) -> None:
    there("echo started; sleep 60")
    set_to(monkeypatch, slurm_options="--no-requeue")

    def take_down(line: str) -> None:
        slurm_cluster.take_down("n1")

    try:
        with pytest.raises(CommandFailed, match="ended as NODE_FAIL") as caught:
            launching.run(job(project), take_down)
        assert "on nodes that are up" in str(caught.value)
    finally:
        slurm_cluster.bring_back("n1")
        wait(slurm_cluster.is_up)


def test_a_job_that_ended_badly_unseen_is_followed_by_a_new_one(
    project: Project, there: Pretend, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    there(f"test -e {tmp_path}/again && exit 0; touch {tmp_path}/again; exit 1")
    one = job(project)
    with pytest.raises(CommandFailed):
        launching.run(one, lambda line: None)

    launching.run(one, lambda line: None)

    assert "is FAILED; a new one goes on from its checkpoints" in capsys.readouterr().out


def test_a_job_is_found_by_its_name_where_its_number_was_lost(
    project: Project, there: Pretend, slurm_cluster: Slurm
) -> None:
    there("sleep 3; echo done")
    one = job(project)
    number = slurm._submit(one)
    (one.folder / slurm.NOTE).unlink()

    assert slurm._running(one) == number
    cluster.cancel(number)
    assert slurm_cluster.jobs() == {}


def test_what_slurm_trains_is_not_trained_here_as_well(
    project: Project, there: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    there("sleep 60")
    one = job(project)
    number = slurm._submit(one)
    set_to(monkeypatch, launcher="local")

    with pytest.raises(UserError, match=f"Slurm's job {number} trains this already"):
        launching.check(one)
    cluster.cancel(number)
    launching.check(one)


def test_without_slurm_there_is_a_clear_word(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to(monkeypatch, launcher="slurm")
    monkeypatch.setattr(shutil, "which", lambda name: None)

    with pytest.raises(UserError, match="slurm, but there is no sbatch on PATH"):
        launching.check(job(project))


def test_a_controller_that_does_not_answer_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = subprocess.CompletedProcess([], 1, "", "slurm_load_jobs error: Unable to contact ...")
    monkeypatch.setattr(cluster, "_call", lambda *command: silent)

    assert cluster.ask("7", State("RUNNING")) == State("RUNNING")
    assert cluster.ask("7").waits


def test_what_the_settings_say_comes_last_in_the_script(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to(
        monkeypatch, slurm_gres="dcu", slurm_partition="long", slurm_account="me",
        slurm_options="--time=2-0 --comment='two words'",
    )  # fmt: skip

    assert slurm.options(job(project, "processes: 4")) == [
        "--gres=dcu:4",
        "--partition=long",
        "--account=me",
        "--time=2-0",
        "'--comment=two words'",
    ]
