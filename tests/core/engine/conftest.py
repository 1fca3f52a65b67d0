"""The store of a team, on a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from minio import Minio

from tasks.core import settings
from tasks.core.engine import contact, sending
from tests.conftest import Project
from tests.services import faults, swift
from tests.services.faults import Proxy
from tests.services.swift import Swift

BUCKET = "team"


@pytest.fixture
def team(swift_server: Swift, project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Minio]:
    """A bucket of its own, settings that lead there, and a build that has not looked at it."""
    monkeypatch.setattr(contact, "_answers", None)
    monkeypatch.setattr(sending, "_is_tidy", False)
    values = {
        "S3_ENDPOINT": swift_server.url,
        "S3_ACCESS_KEY": swift.USER,
        "S3_SECRET_KEY": swift.PASSWORD,
        "STORE_S3": f"s3://{BUCKET}/results/of",
    }
    configure(monkeypatch, **values)
    address = swift_server.url.partition("://")[2]
    client = Minio(
        address, access_key=swift.USER, secret_key=swift.PASSWORD, secure=False, region="us-east-1"
    )
    yield client
    if client.bucket_exists(BUCKET):
        for item in client.list_objects(BUCKET, recursive=True):
            client.remove_object(BUCKET, str(item.object_name))
        client.remove_bucket(BUCKET)


@pytest.fixture
def proxy(team: Minio, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy before the team's store, and settings that lead to it."""
    upstream = settings.current().s3_endpoint.removeprefix("http://")
    with faults.proxy(upstream) as made:
        configure(monkeypatch, S3_ENDPOINT=f"http://{made.host}")
        yield made


def configure(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"MODELWRIGHT_{name}", value)
    settings.current.cache_clear()
