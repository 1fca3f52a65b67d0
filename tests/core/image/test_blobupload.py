"""Uploads that break and go on: faults before a real registry, and one that resumes by the spec."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tasks.core import settings
from tasks.core.errors import UserError
from tasks.core.image import blobupload, registry
from tasks.core.image.blobupload import Pieces, Progress
from tasks.core.image.oci import Descriptor
from tasks.core.image.registry import Registry
from tests.services import faults, images, specregistry
from tests.services.faults import Fault, Proxy
from tests.services.registry import Registry as Server

CONTENT = random.Random(1).randbytes(1_500_000)
BLOB: Descriptor = {"digest": images.digest(CONTENT), "size": len(CONTENT), "mediaType": "x"}

pytestmark = pytest.mark.needs("docker-registry")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "PAUSES", (0.01, 0.02, 0.05, 0.05, 0.1, 0.1))
    monkeypatch.setattr(blobupload, "CHUNK", 400_000)
    monkeypatch.setattr(blobupload, "LEAST_CHUNK", 50_000)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    settings.current.cache_clear()


@pytest.fixture
def proxy(plain_registry: Server) -> Iterator[Proxy]:
    plain_registry.empty()
    with faults.proxy(plain_registry.host) as made:
        yield made


def source(start: int) -> Pieces:
    for at in range(start, len(CONTENT), 65536):
        yield CONTENT[at : at + 65536]


def send(host: str, blob: Descriptor = BLOB) -> Progress:
    progress = Progress(threading.Event())
    with Registry(host) as there:
        blobupload.send(there, "llms/m", blob, source, progress)
        assert there.blob_size("llms/m", blob["digest"]) == blob["size"]
        got = b"".join(there.read_blob("llms/m", blob["digest"]))
    assert got == CONTENT
    return progress


def test_a_blob_goes_in_chunks(proxy: Proxy) -> None:
    send(proxy.host)
    methods = [line.split()[0] for line in proxy.seen]
    assert methods.count("PATCH") == 4
    assert methods.count("PUT") == 1


def test_a_small_blob_is_one_request(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobupload, "CHUNK", len(CONTENT))
    send(proxy.host)
    assert [line.split()[0] for line in proxy.seen if "uploads" in line] == ["POST", "PUT"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("request_", ["POST", "PATCH", "PUT", "HEAD"])
def test_what_passes_is_tried_again(proxy: Proxy, status: int, request_: str) -> None:
    proxy.faults.append(Fault(f"^{request_} ", times=2, status=status))
    send(proxy.host)
    assert sum(line.endswith(f" {status}") for line in proxy.seen) == 2


def test_retry_after_is_waited_for(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("tasks.core.image.registry.time.sleep", waited.append)
    proxy.faults.append(Fault("^POST ", status=429, headers={"Retry-After": "7"}))
    send(proxy.host)
    assert waited == [7]


def test_a_limit_on_requests_makes_chunks_smaller(proxy: Proxy) -> None:
    proxy.faults.append(Fault("^P", times=99, status=413, most=120_000))
    send(proxy.host)
    assert sum(line.startswith("PATCH") and line[-4:] != " 413" for line in proxy.seen) == 15


def test_a_limit_below_all_chunks_is_an_error(proxy: Proxy) -> None:
    proxy.faults.append(Fault("^P", times=99, status=413, most=10))
    with pytest.raises(UserError, match="limits the size of requests"):
        send(proxy.host)


def test_a_registry_that_fails_for_good_is_an_error(proxy: Proxy) -> None:
    proxy.faults.append(Fault("^PATCH", times=999, status=500))
    with pytest.raises(UserError, match="the registry fails, perhaps its disk is full"):
        send(proxy.host)


@pytest.mark.parametrize("seed", range(8))
def test_connections_cut_anywhere_are_overcome(proxy: Proxy, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(4):
        proxy.faults.append(Fault("^P(ATCH|UT)", cut=chance.randrange(400_000)))
    send(proxy.host)


def test_a_lost_answer_to_the_last_request_costs_no_second_upload(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Registry.once
    lost: list[object] = []

    def once(self: Registry, method: str, *rest: object, **named: object) -> object:
        import httpx

        answer = put(self, method, *rest, **named)  # type: ignore[arg-type]
        if method == "PUT" and not lost:
            lost.append(answer)
            raise httpx.ReadError("lost")
        return answer

    monkeypatch.setattr(Registry, "once", once)
    assert send(proxy.host).sent == len(CONTENT)


def test_content_that_is_not_the_digest_s_is_refused_once(proxy: Proxy) -> None:
    wrong = {**BLOB, "digest": images.digest(b"other")}
    with pytest.raises(UserError, match="build the image anew"):
        send(proxy.host, wrong)
    assert sum("POST" in line for line in proxy.seen) == 1


@pytest.mark.parametrize("kill", [False, True])
def test_a_registry_that_is_restarted_in_mid_upload(
    plain_registry: Server, kill: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "PAUSES", (0.3, 0.5, 0.5, 1, 1, 1))
    plain_registry.empty()
    restarts: list[threading.Thread] = []

    def restart() -> None:
        plain_registry.server.stop(kill=kill)
        plain_registry.server.start()

    with faults.proxy(plain_registry.host) as made:

        def on_body(done: int) -> None:
            if not restarts and sum("PATCH" in line for line in made.seen) == 2:
                restarts.append(threading.Thread(target=restart))
                restarts[0].start()

        made.on_body = on_body
        send(made.host)
    restarts[0].join()


def test_an_upload_goes_on_at_the_offset_that_docker_s_registry_tells(proxy: Proxy) -> None:
    proxy.faults.append(Fault("^PATCH", after=2, cut=0))
    sent = send(proxy.host).sent
    uploads = [line.split()[0] for line in proxy.seen if "/uploads/" in line]
    assert uploads == ["POST", "PATCH", "PATCH", "PATCH", "GET", "PATCH", "PATCH", "PUT"]
    assert sent <= len(CONTENT) + blobupload.CHUNK


def test_docker_s_registry_forgets_an_upload_that_is_cut_inside_a_request(proxy: Proxy) -> None:
    proxy.faults.append(Fault("^PATCH", after=2, cut=200_000))
    send(proxy.host)
    uploads = [line.split()[0] for line in proxy.seen if "/uploads/" in line]
    assert uploads[:6] == ["POST", "PATCH", "PATCH", "PATCH", "GET", "POST"]


def test_a_registry_that_is_killed_between_requests_costs_no_byte(
    plain_registry: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_registry.empty()
    plain, patches = Registry.once, []

    def once(self: Registry, method: str, *rest: Any, **named: Any) -> Any:
        patches.extend([method] * (method == "PATCH"))
        if patches == ["PATCH"] * 3:
            plain_registry.server.stop(kill=True)
            plain_registry.server.start()
        return plain(self, method, *rest, **named)

    monkeypatch.setattr(Registry, "once", once)
    assert send(plain_registry.host).sent == len(CONTENT)
    assert len(patches) == 4


@pytest.mark.parametrize("seed", range(6))
def test_a_cut_upload_goes_on_where_the_registry_is(seed: int) -> None:
    chance = random.Random(seed)
    with specregistry.serve() as there, faults.proxy(there.host) as made:
        for _ in range(3):
            made.faults.append(Fault("^PATCH", cut=chance.randrange(1, 400_000)))
        progress = send(made.host)
        assert sum(line.startswith("POST") for line in made.seen) == 1
    # What was in flight when a connection broke is sent again, and no more.
    assert progress.sent < len(CONTENT) + 3 * 400_000


@pytest.mark.parametrize(
    ("host", "methods"),
    [
        ("ghcr.io", ["POST", "PUT"]),
        ("eu.gcr.io", ["POST", "PUT"]),
        ("europe-docker.pkg.dev", ["POST", "PUT"]),
        ("1.dkr.ecr.eu-west-1.amazonaws.com", ["POST", "PUT"]),
        ("acme.jfrog.io", ["POST", "PATCH", "PUT"]),
        ("registry.acme.example:5000", ["POST", "PATCH", "PATCH", "PATCH", "PATCH", "PUT"]),
    ],
)
def test_each_registry_gets_a_blob_as_it_wants_it(
    proxy: Proxy, host: str, methods: list[str]
) -> None:
    with Registry(proxy.host) as there:
        assert there.url
        there.host = host
        blobupload.send(there, "llms/m", BLOB, source, Progress(threading.Event()))
    assert [line.split()[0] for line in proxy.seen if "/uploads/" in line] == methods


def test_two_uploads_of_one_blob_at_once_both_end_well(proxy: Proxy) -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(send, [proxy.host] * 2))  # raises what one of them raised


def test_a_big_blob_takes_little_memory(plain_registry: Server) -> None:
    import resource

    plain_registry.empty()
    piece, count = os.urandom(1 << 20), 300
    whole = hashlib.sha256()
    for _ in range(count):
        whole.update(piece)
    blob = {"digest": f"sha256:{whole.hexdigest()}", "size": count << 20, "mediaType": "x"}

    def pieces(start: int) -> Pieces:
        for _ in range(start >> 20, count):
            yield piece

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Registry(plain_registry.host) as there, pytest.MonkeyPatch.context() as patch:
        patch.setattr(blobupload, "CHUNK", 64 << 20)
        blobupload.send(there, "llms/m", blob, pieces, Progress(threading.Event()))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    plain_registry.empty()
