"""The shared store, with OpenStack Swift as the server: what it brings, what may go wrong."""

from __future__ import annotations

import io
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from minio import Minio

from tasks.core import paths
from tasks.core.engine import cas, manifest, room, sending, shared, store
from tasks.core.engine.manifest import Manifest
from tests.conftest import Project
from tests.core.engine.conftest import BUCKET, configure
from tests.services.faults import Fault, Proxy

WEIGHTS = {"model.safetensors": b"weights" * 1000, "sub/config.json": b"{}"}


def kept(project: Project) -> Manifest:
    """Keep a made-up result here and in the shared store; then lose the local store."""
    folder = project.result("m", "merge", WEIGHTS)
    receipt = manifest.read(folder / manifest.NAME)
    assert receipt is not None
    store.keep(receipt, folder)
    shutil.rmtree(cas.folder())
    return receipt


def restored(receipt: Manifest) -> Path | None:
    return store.restore("merge", "colleague", receipt.key)


def objects(client: Minio) -> list[str]:
    return sorted(str(item.object_name) for item in client.list_objects(BUCKET, recursive=True))


def replace(client: Minio, name: str, content: bytes) -> None:
    client.put_object(BUCKET, name, io.BytesIO(content), len(content))


def test_a_colleagues_result_comes_back_byte_for_byte(project: Project, team: Minio) -> None:
    scratch = restored(kept(project))

    assert scratch is not None
    assert {name: (scratch / name).read_bytes() for name in WEIGHTS} == WEIGHTS


def test_what_is_coming_is_not_collected_by_another_build(
    project: Project, team: Minio, monkeypatch: pytest.MonkeyPatch
) -> None:
    receipt = kept(project)
    fetch = shared._fetch

    def fetch_and_collect(*arguments: Any) -> None:
        fetch(*arguments)
        with ThreadPoolExecutor(1) as other:
            other.submit(room.collect, 10**9).result()

    monkeypatch.setattr(shared, "_fetch", fetch_and_collect)
    assert restored(receipt) is not None


def test_what_is_there_already_is_not_sent_again(project: Project, team: Minio) -> None:
    receipt = kept(project)
    before = {str(i.object_name): i.last_modified for i in team.list_objects(BUCKET, "", True)}
    restored(receipt)

    sending.keep(receipt)

    after = {str(i.object_name): i.last_modified for i in team.list_objects(BUCKET, "", True)}
    blobs = [name for name in before if "/blobs/" in name]
    assert len(blobs) == 2
    assert {name: before[name] for name in blobs} == {name: after[name] for name in blobs}


def test_a_corrupt_blob_is_refused_and_the_stage_is_built(
    project: Project, team: Minio, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = kept(project)
    name = next(name for name in objects(team) if "/blobs/" in name)
    replace(team, name, b"something else")

    assert restored(receipt) is None
    assert "its bytes are not those of its name" in capsys.readouterr().out
    assert not cas.result(receipt.key).exists()


def test_a_missing_blob_is_no_result(project: Project, team: Minio) -> None:
    receipt = kept(project)
    team.remove_object(BUCKET, next(name for name in objects(team) if "/blobs/" in name))

    assert restored(receipt) is None


@pytest.mark.parametrize(
    "file",
    [
        {"path": "../../evil", "digest": f"sha256:{'a' * 64}"},
        {"path": "/etc/evil", "digest": f"sha256:{'a' * 64}"},
        {"path": "good", "digest": "sha256:../../../../etc/passwd"},
        {"path": "good", "digest": "sha256:" + "../" * 20 + "etc/hostname"},
    ],
)
def test_a_hostile_colleague_writes_nothing_outside_the_stages_folder(
    project: Project, team: Minio, file: dict[str, str]
) -> None:
    receipt = kept(project)
    name = next(name for name in objects(team) if "/results/" in name)
    content = json.loads(team.get_object(BUCKET, name).data)
    content["files"] = [{**content["files"][0], **file}]
    replace(team, name, json.dumps(content).encode())
    before = set(project.build.parent.rglob("*"))

    assert restored(receipt) is None
    made = {p for p in set(project.build.parent.rglob("*")) - before if p.is_file()}
    assert made == {cas.folder() / cas.LOCK}
    assert Path("/etc/passwd").exists()
    assert Path("/etc/hostname").exists()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("S3_ENDPOINT", "http://127.0.0.1:9", "no answer"),
        ("S3_SECRET_KEY", "not-the-secret-1234", "on http://"),
    ],
)
def test_a_store_that_cannot_be_used_is_said_and_stops_nothing(
    project: Project,
    team: Minio,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    value: str,
    said: str,
) -> None:
    configure(monkeypatch, **{name: value})

    receipt = kept(project)

    assert restored(receipt) is None
    told = capsys.readouterr().out
    assert "shared store: " in told
    assert said in told
    assert "not-the-secret" not in told


def test_without_a_shared_store_nobody_is_asked(project: Project) -> None:
    assert not shared.fetch("merge", f"sha256:{'a' * 64}")
    assert not (paths.build() / ".store").exists()


def test_an_answer_that_breaks_off_costs_its_result_and_not_the_store(
    project: Project, team: Minio, proxy: Proxy, capsys: pytest.CaptureFixture[str]
) -> None:
    receipt = kept(project)
    half = {"Transfer-Encoding": "chunked"}
    proxy.faults.append(Fault("^GET .*blobs/../", status=200, headers=half, body=b"9\r\nhalf"))

    assert restored(receipt) is None
    assert "an answer broke off in the middle" in capsys.readouterr().out
    assert restored(receipt) is not None
