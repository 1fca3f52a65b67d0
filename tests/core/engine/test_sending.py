"""Results on their way to the shared store, with OpenStack Swift behind a faulty proxy."""

from __future__ import annotations

import os
import shutil
from datetime import timedelta

import pytest
from minio import Minio

from tasks.core.engine import cas, lock, manifest, sending, store
from tasks.core.engine.manifest import Manifest
from tasks.core.s3 import uploading
from tasks.core.s3.buckets import Bucket
from tests.conftest import Project
from tests.core.engine.conftest import BUCKET, configure
from tests.services.faults import Fault, Proxy

PREFIX = "results/of/"
LARGE = os.urandom(300_000)


def kept(project: Project, stage: str, content: bytes = b"") -> Manifest:
    """Keep a made-up result of a stage, here and in the shared store."""
    folder = project.result("m", stage, {"file": content or stage.encode()})
    receipt = manifest.read(folder / manifest.NAME)
    assert receipt is not None
    assert store.keep(receipt, folder)
    return receipt


def unsent(project: Project, proxy: Proxy, stage: str) -> Manifest:
    """Keep a made-up result while the server refuses everything."""
    proxy.faults.append(Fault(".", times=99, status=403))
    receipt = kept(project, stage)
    proxy.faults.clear()
    return receipt


def is_there(team: Minio, receipt: Manifest, prefix: str = PREFIX) -> bool:
    """Return whether a result's manifest and all its blobs are in the team's store."""
    names = {str(item.object_name) for item in team.list_objects(BUCKET, recursive=True)}
    blobs = {f"{prefix}{cas.blob_name(file.digest)}" for file in receipt.files}
    return {f"{prefix}{cas.result_name(receipt.key)}", *blobs} <= names


def left() -> list[str]:
    """Return the names of what lies among the notes."""
    return sorted(path.name for path in sending.folder(BUCKET, PREFIX).iterdir())


def test_what_could_not_be_sent_goes_with_the_next_result(
    project: Project, team: Minio, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    first = unsent(project, proxy, "merge")
    assert "   not yet kept in the shared store: merge:m: " in capsys.readouterr().out

    second = kept(project, "adapter")

    assert is_there(team, first)
    assert is_there(team, second)
    assert left() == [".lock"]


def test_what_was_meant_for_one_store_is_never_sent_to_another(
    project: Project, team: Minio, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    private = unsent(project, proxy, "merge")

    configure(monkeypatch, STORE_S3=f"s3://{BUCKET}/public")
    assert is_there(team, kept(project, "adapter"), "public/")
    names = [str(item.object_name) for item in team.list_objects(BUCKET, recursive=True)]
    assert not any(cas.hex_of(private.files[0].digest) in name for name in names)

    configure(monkeypatch, STORE_S3=f"s3://{BUCKET}/{PREFIX}")
    kept(project, "convert")
    assert is_there(team, private)


def test_each_store_has_notes_of_its_own(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = {sending.folder("team", "a/"), sending.folder("team", "")}
    folders |= {sending.folder("other", "a/")}
    configure(monkeypatch, S3_ENDPOINT="https://s3.example")
    folders |= {sending.folder("team", "a/")}

    assert len(folders) == 4


def test_an_interrupted_sending_goes_on_though_another_result_came_between(
    project: Project, team: Minio, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "part_size", lambda size: 100_000)
    monkeypatch.setattr(uploading, "WORKERS", 1)
    proxy.faults.append(Fault("^PUT .*partNumber", times=99, after=2, status=403))
    large = kept(project, "merge", LARGE)
    proxy.faults.clear()
    proxy.seen.clear()

    kept(project, "adapter")

    assert is_there(team, large)
    assert sum("partNumber" in line for line in proxy.seen) == 1
    assert left() == [".lock"]


def test_a_result_that_is_refused_keeps_no_other_from_being_sent(
    project: Project, team: Minio, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = [unsent(project, proxy, stage) for stage in ("base", "data")]
    blob = f"^PUT .*{cas.hex_of(waiting[0].files[0].digest)}"
    proxy.faults.append(Fault(blob, times=99, status=403))
    capsys.readouterr()

    later = [kept(project, stage) for stage in ("convert", "adapter")]

    assert [is_there(team, each) for each in [*waiting, *later]] == [False, True, True, True]
    assert len(left()) == 2
    said = capsys.readouterr().out
    assert "shared store: base:m: " in said
    assert all(f"{stage}:m" not in said for stage in ("data", "convert", "adapter"))


def test_what_the_local_store_lost_is_not_tried_for_ever(
    project: Project, team: Minio, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = unsent(project, proxy, "merge")
    shutil.rmtree(cas.folder())

    kept(project, "adapter")

    assert "never sent to the shared store: merge:m: " in capsys.readouterr().out
    assert not is_there(team, lost)
    assert left() == [".lock"]


def test_uploads_that_somebody_gave_up_are_taken_away(
    project: Project, team: Minio, monkeypatch: pytest.MonkeyPatch
) -> None:
    team.make_bucket(BUCKET)
    for prefix in (PREFIX, "elsewhere/"):
        team._create_multipart_upload(BUCKET, f"{prefix}blobs/ab/lost", {})
    abort, at_once = Bucket.abort_unfinished, timedelta(seconds=-5)
    monkeypatch.setattr(Bucket, "abort_unfinished", lambda its, root: abort(its, root, at_once))

    kept(project, "merge")

    left = [abort(Bucket(BUCKET), prefix, at_once) for prefix in (PREFIX, "")]
    assert left == [0, 1], "the store's own, and no other's"


def test_a_build_looks_once_for_uploads_that_somebody_gave_up(
    project: Project, team: Minio, proxy: Proxy
) -> None:
    for stage in ("base", "merge"):
        kept(project, stage)

    assert sum("uploads=" in line for line in proxy.seen) == 1


def test_while_another_build_sends_what_is_noted_each_sends_its_own_alone(
    project: Project, team: Minio, proxy: Proxy
) -> None:
    noted = unsent(project, proxy, "merge")

    with lock.alone(sending.folder(BUCKET, PREFIX) / ".lock"):
        own = kept(project, "adapter")

    assert is_there(team, own)
    assert not is_there(team, noted)
