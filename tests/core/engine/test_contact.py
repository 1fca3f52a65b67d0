"""Whether the shared store answers: asked once a build, with OpenStack Swift as the server."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from minio import Minio

from tasks.core import console
from tasks.core.engine import contact, manifest, sending, store
from tasks.core.engine.manifest import Manifest
from tasks.core.s3 import buckets, connection
from tests.conftest import Project
from tests.core.engine.conftest import BUCKET, configure
from tests.services.faults import Fault, Proxy

STAGES = ("base", "data", "merge")
PREFIX = "results/of/"


def built(project: Project, stage: str) -> Manifest:
    """Do with the stores what a build does: look a result up in them, make it, keep it."""
    console.start(f"{stage}:m")
    assert store.restore(stage, "m", manifest.key_of(stage, {})) is None
    folder = project.result("m", stage, {"file": stage.encode()})
    receipt = manifest.read(folder / manifest.NAME)
    assert receipt is not None
    assert store.keep(receipt, folder)
    return receipt


def noted() -> list[str]:
    """Return the stages whose results are noted to be sent."""
    folder: Path = sending.folder(BUCKET, PREFIX)
    return sorted(path.name.split(".")[1] for path in folder.glob("[!.]*"))


def sent(team: Minio) -> int:
    """Return how many results the team's store has."""
    return len(list(team.list_objects(BUCKET, f"{PREFIX}results/", recursive=True)))


def test_the_bucket_is_asked_for(project: Project, team: Minio) -> None:
    assert contact.check() == f"s3://{BUCKET}/results/of/, a bucket that the first build makes"
    built(project, "merge")
    assert contact.check() == f"s3://{BUCKET}/results/of/"


def test_a_store_that_is_silent_is_asked_once_and_the_build_says_once_what_that_means(
    project: Project,
    team: Minio,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(connection, "QUICK", 0.1)
    monkeypatch.setattr(buckets, "connect", lambda: pytest.fail("asked again, and patiently"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        configure(monkeypatch, S3_ENDPOINT=f"http://127.0.0.1:{silent.getsockname()[1]}")

        for stage in STAGES:
            built(project, stage)

        silent.accept()
        with pytest.raises(BlockingIOError):
            silent.accept()
    said = capsys.readouterr().out
    assert said.count("no answer (ReadTimeoutError); is MODELWRIGHT_S3_ENDPOINT right?") == 1
    assert said.count("from base:m on this build does without it") == 1
    assert len(said.splitlines()) == 2
    assert noted() == sorted(STAGES)


def test_a_store_that_falls_silent_in_a_build_is_given_up_and_gets_all_from_a_later_one(
    project: Project,
    team: Minio,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)
    built(project, "base")
    proxy.faults.append(Fault(".", times=99, status=503))
    before = len(proxy.seen)

    for stage in ("data", "merge"):
        built(project, stage)

    assert len({line.partition("?")[0] for line in proxy.seen[before:]}) == 1, "one request"
    said = capsys.readouterr().out
    assert said.count("too many 503 error responses); try later") == 1
    assert said.count("from data:m on this build does without it") == 1
    assert noted() == ["data", "merge"]
    proxy.faults.clear()
    monkeypatch.setattr(contact, "_answers", None)
    built(project, "adapter")
    assert noted() == []
    assert sent(team) == 4


def test_results_that_wait_are_not_all_tried_at_a_store_that_falls_silent(
    project: Project, team: Minio, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)
    proxy.faults.append(Fault("^PUT", times=99, status=403))
    for stage in STAGES:
        built(project, stage)
    proxy.faults[:] = [Fault("^PUT", after=3, times=99, status=503)]
    before = len(proxy.seen)

    built(project, "adapter")

    refused = [line for line in proxy.seen[before:] if line.endswith(" 503")]
    assert len(set(refused)) == 1
    assert noted() == sorted(STAGES)


def test_a_busy_store_is_asked_again(
    project: Project, team: Minio, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)
    proxy.faults.append(Fault(".", times=3, status=503))

    built(project, "base")

    assert sent(team) == 1
