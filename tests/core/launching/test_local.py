"""Training on this machine: one process, several, and what it cannot do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core import launching
from tasks.core.engine import pools
from tasks.core.errors import CommandFailed, UserError
from tasks.core.launching import local
from tests.conftest import Project

from .jobs import job, pretend, set_to


def test_one_process_is_started_as_it_is(project: Project) -> None:
    line = local.command(job(project))

    assert line[1].endswith("launch.py")
    assert line[2] == "train"


def test_several_meet_on_a_port_that_is_free_when_they_look(project: Project) -> None:
    line = local.command(job(project, "processes: 2"))

    assert line[1:4] == ["-m", "torch.distributed.run", "--nproc-per-node=2"]
    assert "--rdzv-endpoint=127.0.0.1:0" in line


def test_several_nodes_need_another_launcher(project: Project) -> None:
    with pytest.raises(UserError, match="6 nodes need a launcher for several"):
        launching.check(job(project, "nodes: 6"))


def test_more_processes_than_devices_are_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(project, monkeypatch, "exit 0")
    set_to(monkeypatch, pools_gpu=2)

    with pytest.raises(UserError, match="4 processes, but there are 2 devices"):
        launching.run(job(project, "processes: 4"), print)


@pytest.mark.parametrize("name", pools.VARIABLES)
def test_devices_are_shown_by_their_makers_variable(
    project: Project, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pretend(project, monkeypatch, f"echo devices ${name}")
    set_to(monkeypatch, pools_variable=name)
    monkeypatch.setenv(name, "4,5,6")
    lines: list[str] = []

    launching.run(job(project, "processes: 2"), lines.append)

    assert lines == ["devices 4,5"]


def test_what_the_settings_give_reaches_training(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(project, monkeypatch, 'echo "$NCCL_DEBUG $HF_HOME $MODELWRIGHT_S3_SECRET_KEY."')
    monkeypatch.setenv("HF_HOME", "/shared/hf")
    set_to(monkeypatch, launcher_environ="NCCL_DEBUG='IN FO' HF_HOME", s3_secret_key="s3cret")
    lines: list[str] = []

    launching.run(job(project), lines.append)

    assert lines == ["IN FO /shared/hf ."]


def test_a_failure_has_the_words_that_matter_and_what_to_try(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "said"
    log.write_text(
        "[rank0]: Traceback (most recent call last):\n"
        "[rank0]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 "
        "has a total capacity of 79.10 GiB of which 512.00 MiB is free.\n"
        "E1122 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: 1)\n"
        + "noise of torch.distributed.run\n"
        * 40
    )
    pretend(project, monkeypatch, f"cat {log}; exit 1")

    with pytest.raises(CommandFailed) as caught:
        launching.run(job(project, batch_size=4), lambda line: None)

    said = str(caught.value)
    assert "noise" not in said
    assert "Map: 0%" not in said
    assert "did not suffice, by 1.50 GiB at that moment" in said
    assert "train.batch_size: 2 and accumulative_counts: 4, now 4 and 2" in said
    assert caught.value.status == 1
