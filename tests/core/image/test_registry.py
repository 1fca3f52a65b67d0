"""A registry's API: what is asked, what is believed, what is said."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import httpx
import pytest

from tasks.core import settings
from tasks.core.engine import digests
from tasks.core.errors import UserError
from tasks.core.image import blobupload, reference, refusals, registry, transport
from tasks.core.image.reference import Reference
from tasks.core.image.registry import Registry
from tests.services import faults
from tests.services.registry import Registry as Server

DIGEST = "sha256:" + "0" * 64


@pytest.fixture(autouse=True)
def fresh_settings() -> Iterator[None]:
    settings.current.cache_clear()
    yield
    settings.current.cache_clear()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ubuntu", ("docker.io", "library/ubuntu", "latest", None)),
        ("vllm/vllm-openai:v0.4.1", ("docker.io", "vllm/vllm-openai", "v0.4.1", None)),
        ("localhost/a", ("localhost", "a", "latest", None)),
        ("a.example:65535/x", ("a.example:65535", "x", "latest", None)),
        ("a.example:5000/x/y:V1_x", ("a.example:5000", "x/y", "V1_x", None)),
        (f"a.example/x@{DIGEST}", ("a.example", "x", None, DIGEST)),
        (f"a.example/x:v1@{DIGEST}", ("a.example", "x", "v1", DIGEST)),
    ],
)
def test_a_name_is_read_as_docker_reads_it(text: str, parts: tuple[str | None, ...]) -> None:
    found = reference.parse(text)
    assert (found.host, found.repository, found.tag, found.digest) == parts
    assert reference.parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A/b",
        "a.example/",
        "a.example/X",
        "a:",
        "a@",
        "a@sha256:1",
        "a:b c",
        "a//b",
        "-a",
        "a:\n",
        "a.example:0/x",
        "a.example:65536/x",
        "a.example:99999999999999999999/x",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="not an image's name"):
        reference.parse(text)


@pytest.mark.parametrize(
    ("host", "is_plain"),
    [
        ("127.0.0.1:5000", True),
        ("127.9.9.9", True),
        ("localhost:5000", True),
        ("[::1]:5000", True),
        ("10.0.0.1:5000", False),
        ("registry.example", False),
        ("localhost.example", False),
        ("named.example:80", True),
    ],
)
def test_plain_http_is_for_the_loopback_and_what_is_named(
    host: str, is_plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWRIGHT_REGISTRY_INSECURE", "other.example, named.example:80")
    settings.current.cache_clear()
    assert transport.may_be_plain(host) is is_plain


@pytest.mark.needs("docker-registry")
def test_a_proxy_is_used_and_never_for_this_machine(
    plain_registry: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWRIGHT_REGISTRY_INSECURE", "registry.invalid")
    settings.current.cache_clear()
    with faults.proxy(plain_registry.host) as proxy:
        monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "")
        with Registry("registry.invalid") as there:
            assert there.blob_size("llms/m", DIGEST) is None
        assert len(proxy.seen) == 2
        with Registry(plain_registry.host) as there:
            assert there.blob_size("llms/m", DIGEST) is None
        assert len(proxy.seen) == 2


def test_docker_hub_s_api_has_a_name_of_its_own() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, headers={"Docker-Content-Digest": DIGEST})

    with Registry("docker.io") as there:
        there._client = httpx.Client(transport=httpx.MockTransport(answer))
        assert there.digest(reference.parse("ubuntu:22.04")) == DIGEST
    assert {request.url.host for request in asked} == {"registry-1.docker.io"}
    assert asked[-1].url.path == "/v2/library/ubuntu/manifests/22.04"


@pytest.mark.parametrize(
    ("location", "where", "is_shown"),
    [
        ("/v2/x/uploads/1?a=b", "https://a.example/v2/x/uploads/1?a=b", True),
        ("http://a.example/u?a=b", "https://a.example/u?a=b", True),
        ("https://b.example/u", "https://b.example/u", False),
    ],
)
def test_a_token_stays_with_its_registry(
    location: str, where: str, is_shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        if request.url.path == "/token":
            return httpx.Response(200, json={"token": "t0ken"})
        if request.url.path == "/v2/":
            asks = 'Bearer realm="https://a.example/token",service="s"'
            return httpx.Response(401, headers={"WWW-Authenticate": asks})
        if request.method == "POST":
            return httpx.Response(202, headers={"Location": location})
        return httpx.Response(201)

    client = httpx.Client(transport=httpx.MockTransport(answer))
    monkeypatch.setattr(transport, "client", lambda host: client)
    with Registry("a.example") as there:
        session = blobupload._start(there, "x", 1)
        there.once("PUT", "x", session.location)
    assert str(seen[-1].url) == where
    assert ("Authorization" in seen[-1].headers) is is_shown


def test_a_digest_that_a_registry_tells_wrongly_is_computed() -> None:
    told = {"Docker-Content-Digest": "sha256:1\\nevil"}
    with Registry("a.example") as there:
        there._client = httpx.Client(
            transport=httpx.MockTransport(
                lambda request: httpx.Response(200, headers=told, content=b"{}")
            )
        )
        assert there.digest(reference.parse("a.example/x:v1")) == digests.of_bytes(b"{}")


def test_who_asks_quickly_does_not_wait_for_a_registry_that_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "QUICK", 0.1)
    monkeypatch.setattr("time.sleep", lambda _: pytest.fail("it paused"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        name = f"127.0.0.1:{silent.getsockname()[1]}"
        with (
            Registry(name, quick=True) as there,
            pytest.raises(UserError, match=f"^{name}: no answer"),
        ):
            there.digest(reference.parse(f"{name}/x:v1"))


def test_other_content_than_the_digest_s_is_refused() -> None:
    with Registry("a.example") as there:
        there._client = httpx.Client(
            transport=httpx.MockTransport(lambda request: httpx.Response(200, content=b"{}"))
        )
        with pytest.raises(UserError, match="the registry gave other content"):
            there.manifest(Reference("a.example", "x", None, DIGEST))


@pytest.mark.parametrize(
    ("status", "code", "told"),
    [
        (401, "UNAUTHORIZED", "docker login a.example"),
        (403, "DENIED", "may not do that"),
        (404, "MANIFEST_UNKNOWN", "no such image"),
        (405, "UNSUPPORTED", "read-only"),
        (400, "NAME_INVALID", "choose another image.repository"),
        (400, "DIGEST_INVALID", "build the image anew"),
        (413, "", "limits the size of requests"),
        (500, "UNKNOWN", "perhaps its disk is full"),
        (507, "", "disk is full"),
    ],
)
def test_each_refusal_says_what_to_do(status: int, code: str, told: str) -> None:
    answer = httpx.Response(status, json={"errors": [{"code": code, "message": "why"}]})
    error = refusals.of(answer, "a.example", "x")
    assert told in str(error)
    assert "why" in str(error)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"errors": null}', b'{"errors": ["x"]}'])
def test_a_refusal_that_is_not_json_is_said_all_the_same(body: bytes) -> None:
    assert "403" in str(refusals.of(httpx.Response(403, content=body), "a.example", "x"))
