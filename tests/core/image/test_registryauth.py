"""Who we are to a registry: files, helpers, tokens; and no secret in any message."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.core import settings
from tasks.core.errors import UserError
from tasks.core.image import blobupload, registry, registryauth
from tasks.core.image.blobupload import Pieces, Progress
from tasks.core.image.reference import Reference
from tasks.core.image.registry import Registry
from tasks.core.image.registryauth import Credentials
from tests.services import images
from tests.services.registry import PASSWORD, USER
from tests.services.registry import Registry as Server
from tests.services.tokens import TokenServer

CONTENT = os.urandom(500_000)
BLOB = {"digest": images.digest(CONTENT), "size": len(CONTENT), "mediaType": "x"}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home without credentials."""
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(registry, "PAUSES", (0.01,) * 6)
    settings.current.cache_clear()
    yield tmp_path
    settings.current.cache_clear()


def write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def auth(user: str = USER, password: str = PASSWORD) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def helper(home: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    path = home / "bin" / f"docker-credential-{name}"
    write(path, f"#!/bin/sh\nread host\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home / 'bin'}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    "place",
    [".docker/config.json", "run/containers/auth.json", ".config/containers/auth.json"],
)
def test_docker_s_and_podman_s_files_are_read(home: Path, place: str) -> None:
    write(home / place, {"auths": {"a.example:5000": auth()}})
    found = registryauth.find("a.example:5000", "x/y")
    assert found == Credentials(USER, PASSWORD)
    assert registryauth.find("b.example", "x/y") is None


def test_the_most_special_entry_counts(home: Path) -> None:
    entries = {"a.example": auth("all"), "a.example/x": auth("x"), "a.example/x/y": auth("y")}
    write(home / ".docker/config.json", {"auths": entries})
    users = [registryauth.find("a.example", name) for name in ("x/y/z", "x/z", "z")]
    assert [found and found.user for found in users] == ["y", "x", "all"]


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("docker.io", "https://index.docker.io/v1/"),
        ("docker.io", "docker.io"),
        ("a.example", "https://a.example"),
        ("a.example", "https://a.example/v2/"),
    ],
)
def test_the_old_spellings_of_hosts_are_known(home: Path, host: str, key: str) -> None:
    write(home / ".docker/config.json", {"auths": {key: auth()}})
    assert registryauth.find(host, "library/x") == Credentials(USER, PASSWORD)


def test_other_forms_of_entries_are_read(home: Path) -> None:
    entries = {
        "a": {"username": "u", "password": "p"},
        "b": {"identitytoken": "token"},
        "c": auth("u", "p:with:colons"),
        "d": {},
    }
    write(home / ".docker/config.json", {"auths": entries})
    found = [registryauth.find(host, "x") for host in entries]
    assert found == [
        Credentials("u", "p"),
        Credentials(identity="token"),
        Credentials("u", "p:with:colons"),
        None,
    ]


@pytest.mark.parametrize("kind", ["credHelpers", "credsStore"])
def test_a_credential_helper_is_asked(
    home: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    script = """[ "$host" = a.example ] || { echo credentials not found; exit 1; }
    echo '{"Username": "u", "Secret": "p"}'"""
    helper(home, monkeypatch, "x", script)
    helpers = {"a.example": "x", "b.example": "x"} if kind == "credHelpers" else "x"
    write(home / ".docker/config.json", {kind: helpers})
    assert registryauth.find("a.example", "x") == Credentials("u", "p")
    assert registryauth.find("b.example", "x") is None


def test_a_helper_may_give_an_identity_token(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(home, monkeypatch, "x", """echo '{"Username": "<token>", "Secret": "t"}'""")
    write(home / ".docker/config.json", {"credsStore": "x"})
    assert registryauth.find("a.example", "x") == Credentials(identity="t")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo s3cret; exit 1", "failed for a.example"),
        ("echo s3cret", "in a form of its own"),
        (None, "no such program"),
    ],
)
def test_a_helper_that_fails_is_said_without_its_words(
    home: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, told: str
) -> None:
    if script:
        helper(home, monkeypatch, "x", script)
    write(home / ".docker/config.json", {"credHelpers": {"a.example": "x"}})
    with pytest.raises(UserError, match=told) as failure:
        registryauth.find("a.example", "x")
    assert "s3cret" not in str(failure.value)


@pytest.mark.parametrize("content", ["{", {"auths": {"a": {"auth": "!!"}}}])
def test_a_damaged_file_is_named(home: Path, content: object) -> None:
    write(home / ".docker/config.json", content)
    with pytest.raises(UserError, match=r"config\.json"):
        registryauth.find("a", "x")


@pytest.mark.parametrize(
    ("header", "scheme", "parameters"),
    [
        ('Basic realm="x"', "basic", {"realm": "x"}),
        (
            'Bearer realm="https://a/token?x=1,2",service="s",scope="repository:a:pull,push"',
            "bearer",
            {"realm": "https://a/token?x=1,2", "service": "s", "scope": "repository:a:pull,push"},
        ),
        ('Basic realm="x", Bearer realm="y"', "bearer", {"realm": "y"}),
        ("Bearer realm=y, service=s", "bearer", {"realm": "y", "service": "s"}),
    ],
)
def test_a_challenge_is_read(header: str, scheme: str, parameters: dict[str, str]) -> None:
    found = registryauth.challenge(header)
    assert (found.scheme, found.parameters) == (scheme, parameters)


def test_no_secret_is_in_a_representation() -> None:
    text = repr([Credentials("u", "s3cret", "1dentity"), registryauth.Token("t0ken")])
    assert not any(secret in text for secret in ("s3cret", "1dentity", "t0ken"))


@pytest.mark.needs("docker-registry", "openssl")
@pytest.mark.parametrize("identity", [False, True])
def test_tokens_are_bought_for_what_is_done(
    home: Path, token_registry: tuple[Server, TokenServer], identity: bool
) -> None:
    server, tokens = token_registry
    server.empty()
    tokens.given.clear()
    tokens.users.clear()
    entry = {"identitytoken": "mine"} if identity else auth()
    write(home / ".docker/config.json", {"auths": {server.host: entry}})
    with Registry(server.host) as there:
        assert there.digest(Reference(server.host, "a/b", "v1")) is None
        upload(there, "a/b")
        assert blobupload.mount(there, "c/d", BLOB["digest"], "a/b")  # type: ignore[arg-type]
    assert tokens.given == [
        "repository:a/b:pull",
        "repository:a/b:pull,push",
        "repository:c/d:pull,push repository:a/b:pull",
    ]
    basic = f"Basic {entry.get('auth')}"
    assert set(tokens.users) == {"refresh mine" if identity else basic}


@pytest.mark.needs("docker-registry", "openssl")
def test_a_token_that_runs_out_during_an_upload_is_renewed(
    token_registry: tuple[Server, TokenServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, tokens = token_registry
    server.empty()
    tokens.given.clear()
    monkeypatch.setattr(tokens, "seconds", 1.2)
    monkeypatch.setattr(blobupload, "CHUNK", 60_000)
    with Registry(server.host) as there:
        upload(there, "a/b", pause=0.03)
        assert there.blob_size("a/b", str(BLOB["digest"])) == BLOB["size"]
    assert tokens.given.count("repository:a/b:pull,push") > 1


@pytest.mark.needs("docker-registry", "openssl")
def test_wrong_credentials_for_a_token_are_said_without_them(
    home: Path, token_registry: tuple[Server, TokenServer]
) -> None:
    server, _ = token_registry
    write(home / ".docker/config.json", {"auths": {server.host: auth(password="wrong-0ne")}})
    with Registry(server.host) as there, pytest.raises(UserError, match="refuses") as failure:
        there.digest(Reference(server.host, "a/b", "v1"))
    assert "wrong-0ne" not in str(failure.value)


def upload(there: Registry, repository: str, pause: float = 0) -> None:
    def source(start: int) -> Pieces:
        for at in range(start, len(CONTENT), 10_000):
            time.sleep(pause)
            yield CONTENT[at : at + 10_000]

    blobupload.send(there, repository, BLOB, source, Progress(threading.Event()))
