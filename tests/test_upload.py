"""The way into an S3 bucket, with OpenStack Swift as the server."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3
from minio import Minio
from minio.datatypes import Part
from minio.error import InvalidResponseError
from minio.helpers import md5sum_hash

from tasks import upload
from tasks.core import paths, settings
from tasks.core.engine import manifest, shipping, stage
from tasks.core.errors import LoadError, UserError
from tasks.core.recipe import Recipe
from tasks.core.s3 import buckets, connection, uploading
from tasks.core.s3 import client as s3client
from tasks.core.s3 import plan as plans
from tasks.core.s3.client import Client, pieces
from tests.conftest import Project
from tests.services import faults, swift, web
from tests.services.faults import Fault
from tests.services.swift import Swift

FILES = {
    "config.json": b"{}",
    "model.safetensors": os.urandom(300_000),
    "sub/模型.txt": "名".encode(),
    "empty": b"",
    ".git/HEAD": b"ref",
    ".cache/x": b"x",
}
OUT = {name: value for name, value in FILES.items() if not name.startswith(".")}


class Count:
    """Counts requests to the server, by method and by whether they carry a part."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[tuple[str, dict[str, Any]]] = []
        plain = Minio._url_open

        def counted(client: Minio, method: str, *args: Any, **options: Any) -> Any:
            self.requests.append((method, options.get("query_params") or {}))
            return plain(client, method, *args, **options)

        monkeypatch.setattr(Minio, "_url_open", counted)

    def parts(self) -> list[int]:
        return [int(q["partNumber"]) for m, q in self.requests if m == "PUT" and "partNumber" in q]


@pytest.fixture
def server(swift_server: Swift, monkeypatch: pytest.MonkeyPatch, project: Project) -> Swift:
    configure(
        monkeypatch, ENDPOINT=swift_server.url, ACCESS_KEY=swift.USER, SECRET_KEY=swift.PASSWORD
    )
    return swift_server


@pytest.fixture
def client(server: Swift) -> Minio:
    return connection.connect()


@pytest.fixture
def bucket(tmp_path: Path) -> str:
    """Return the name of a bucket that no other test has."""
    return f"test-{hashlib.sha256(str(tmp_path).encode()).hexdigest()[:12]}"


@pytest.fixture
def recipe(project: Project, bucket: str, server: Swift) -> Recipe:
    project.result("m", "base", FILES)
    return wanted(project, bucket)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the 300 kB file go in parts."""
    monkeypatch.setattr(uploading, "part_size", lambda size: 100_000)


def configure(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"MODELWRIGHT_S3_{name}", value)
    settings.current.cache_clear()


def wanted(project: Project, bucket: str, more: str = "") -> Recipe:
    return project.recipe("m", f"base: {{path: x}}\nupload: {{bucket: {bucket}{more}}}\n")


def build(recipe: Recipe) -> str:
    """Run the stage as doit does; return the error, or nothing."""
    failed = stage.act("upload", upload, recipe)
    return str(failed.message) if failed else ""


def objects(client: Minio, bucket: str, prefix: str = "") -> dict[str, bytes]:
    found = {}
    for item in client.list_objects(bucket, prefix, recursive=True):
        response = client.get_object(bucket, str(item.object_name))
        found[str(item.object_name)] = response.read()
        response.close()
        response.release_conn()
    return found


def change(folder: Path, name: str, content: bytes) -> None:
    """Put another file into a result, as a new build of it would."""
    (folder / name).write_bytes(content)
    receipt = manifest.read(folder / manifest.NAME)
    assert receipt
    described = manifest.describe(folder)
    changed = manifest.Manifest("m", "base", receipt.key, receipt.inputs, described, {})
    manifest.write(changed, folder)


def test_the_bucket_is_made_and_holds_the_model_s_files(
    recipe: Recipe, client: Minio, bucket: str, small_parts: None
) -> None:
    assert build(recipe) == ""
    assert objects(client, bucket) == {f"m/{name}": value for name, value in OUT.items()}
    for name, value in OUT.items():
        metadata = client.stat_object(bucket, f"m/{name}").metadata or {}
        told = {key.lower(): text for key, text in metadata.items()}
        assert told["x-amz-meta-sha256"] == hashlib.sha256(value).hexdigest()
    receipt = manifest.read(paths.manifest("m", "upload"))
    assert receipt
    assert receipt.facts == {"bucket": bucket, "prefix": "m/", "objects": 4}
    assert [file.path for file in receipt.files] == ["objects.json"]


@pytest.mark.needs("rclone")
def test_another_client_reads_the_same_folder_back(
    recipe: Recipe, server: Swift, bucket: str, tmp_path: Path, small_parts: None
) -> None:
    assert build(recipe) == ""
    variables = {
        "TYPE": "s3",
        "PROVIDER": "Other",
        "ENDPOINT": server.url,
        "ACCESS_KEY_ID": swift.USER,
        "SECRET_ACCESS_KEY": swift.PASSWORD,
        "REGION": "us-east-1",
    }
    # With that set, Debian's rclone refuses to start.
    plain = {name: value for name, value in os.environ.items() if name != "AWS_CA_BUNDLE"}
    environment = {f"RCLONE_CONFIG_S_{name}": value for name, value in variables.items()}
    subprocess.run(
        ["rclone", "copy", "--config", "/dev/null", f"s:{bucket}/m", tmp_path / "back"],
        check=True,
        env={**plain, **environment},
    )
    back = {
        path.relative_to(tmp_path / "back").as_posix(): path.read_bytes()
        for path in manifest.walk(tmp_path / "back")
    }
    assert back == OUT


def test_a_second_upload_is_one_listing(
    recipe: Recipe, server: Swift, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build(recipe) == ""
    count = Count(monkeypatch)
    assert stage.is_fresh("upload", upload, recipe)
    assert [method for method, _ in count.requests] == ["GET"]


def test_equal_objects_are_not_sent_again_from_another_machine(
    recipe: Recipe, server: Swift, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert build(recipe) == ""
    stage.clean("upload", recipe)
    count = Count(monkeypatch)
    assert build(recipe) == ""
    assert {method for method, _ in count.requests} == {"GET", "HEAD"}


def test_changed_content_of_equal_size_is_sent(
    recipe: Recipe, client: Minio, bucket: str, project: Project
) -> None:
    assert build(recipe) == ""
    change(project.build / "m/base", "config.json", b"[]")
    assert not stage.is_fresh("upload", upload, recipe)
    assert build(recipe) == ""
    assert objects(client, bucket)["m/config.json"] == b"[]"


@pytest.mark.parametrize("replaced", [False, True])
def test_what_others_did_to_the_bucket_is_noticed_and_undone(
    recipe: Recipe, client: Minio, bucket: str, replaced: bool
) -> None:
    assert build(recipe) == ""
    if replaced:
        path = paths.output("m", "base") / "model.safetensors"
        other = path.with_name("other")
        other.write_bytes(bytes(300_000))
        client.fput_object(bucket, "m/model.safetensors", str(other))
        other.unlink()
    else:
        client.remove_object(bucket, "m/model.safetensors")
    assert not stage.is_fresh("upload", upload, recipe)
    assert build(recipe) == ""
    assert objects(client, bucket)["m/model.safetensors"] == FILES["model.safetensors"]
    assert stage.is_fresh("upload", upload, recipe)


def test_objects_are_removed_only_by_prune_and_only_below_the_model(
    recipe: Recipe,
    client: Minio,
    bucket: str,
    project: Project,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert build(recipe) == ""
    monkeypatch.setattr("sys.argv", ["doit", "-a", "upload:m"])
    (paths.output("m", "base") / "old.bin").write_bytes(b"x")
    for name in ("m/old.bin", "m2/keep", "m", "other/m/keep"):
        client.fput_object(bucket, name, str(paths.output("m", "base") / "old.bin"))
    (paths.output("m", "base") / "old.bin").unlink()
    assert build(wanted(project, bucket, ", prune: false")) == ""
    assert "1 objects in the bucket are not in the model" in capsys.readouterr().out
    assert "m/old.bin" in objects(client, bucket)
    assert build(wanted(project, bucket, ", prune: true")) == ""
    assert set(objects(client, bucket)) == {f"m/{n}" for n in OUT} | {
        "m2/keep",
        "m",
        "other/m/keep",
    }


def test_a_prefix_comes_before_the_model(
    recipe: Recipe, client: Minio, bucket: str, project: Project
) -> None:
    assert build(wanted(project, bucket, ", prefix: team/a")) == ""
    assert set(objects(client, bucket)) == {f"team/a/m/{name}" for name in OUT}


def test_an_interrupted_upload_sends_only_the_missing_parts(
    recipe: Recipe,
    client: Minio,
    bucket: str,
    small_parts: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploading, "WORKERS", 1)
    plain = Minio._upload_part
    sent: list[int] = []

    def broken(*args: Any, **options: Any) -> str:
        if len(sent) == 2:
            raise KeyboardInterrupt
        sent.append(args[-1])
        return plain(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Minio, "_upload_part", broken)
        with pytest.raises(SystemExit):
            build(recipe)
    count = Count(monkeypatch)
    assert build(recipe) == ""
    assert sorted([*sent, *count.parts()]) == [1, 2, 3]
    assert objects(client, bucket)["m/model.safetensors"] == FILES["model.safetensors"]


def test_parts_of_other_content_are_not_taken_for_ours(
    recipe: Recipe, client: Minio, bucket: str, small_parts: None, tmp_path: Path
) -> None:
    journal = plans.Parts(tmp_path / "parts.jsonl")
    made = buckets.Bucket(bucket)
    made.listing("m/", make=True)
    whole = upload.outgoing(recipe)
    file = next(file for file in whole if file.name == "m/model.safetensors")
    plan = uploading.Sender(made, journal).plan(file)
    etag = client._upload_part(bucket, file.name, b"x" * 100_000, None, plan.upload, 1)
    journal.note(upload=plan.upload, part=1, etag="another")
    again = uploading.Sender(made, plans.Parts(journal.path)).plan(file)
    assert again.upload == plan.upload
    assert again.etags == {}
    journal.note(upload=plan.upload, part=1, etag=etag)
    assert uploading.Sender(made, plans.Parts(journal.path)).plan(file).missing == [2, 3]


def test_parts_of_another_size_are_not_mixed_with_ours(
    recipe: Recipe, bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As when a version that cuts otherwise goes on; the object would have the wrong length."""
    made = buckets.Bucket(bucket)
    made.listing("m/", make=True)
    file = next(file for file in upload.outgoing(recipe) if file.name == "m/model.safetensors")
    uploads = []
    for part in (100_000, 150_000, 100_000):
        monkeypatch.setattr(uploading, "part_size", lambda size, part=part: part)
        journal = plans.Parts(tmp_path / "parts.jsonl")
        uploads.append(uploading.Sender(made, journal).plan(file).upload)
    assert uploads[0] == uploads[2] != uploads[1]


def test_a_journal_cut_off_by_a_kill_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    journal = plans.Parts(tmp_path / "j")
    journal.note(object="o", digest="d", part_size=1, upload="u")
    journal.note(upload="u", part=1, etag="e")
    with journal.path.open("a") as file:
        file.write('{"upload": "u", "pa')
    again = plans.Parts(journal.path)
    assert again.uploads == {("o", "d", 1): "u"}
    assert again.parts == {"u": {1: "e"}}


def test_a_server_that_restarts_in_the_middle_is_overcome(
    recipe: Recipe,
    server: Swift,
    client: Minio,
    bucket: str,
    small_parts: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(uploading, "WORKERS", 1)
    plain = Minio._upload_part
    sent: list[int] = []

    def restarting(*args: Any, **options: Any) -> str:
        sent.append(1)
        if len(sent) == 2:
            server.proxy.stop(kill=True)
            server.proxy.start()
        return plain(*args, **options)

    monkeypatch.setattr(Minio, "_upload_part", restarting)
    assert build(recipe) == ""
    assert objects(client, bucket)["m/model.safetensors"] == FILES["model.safetensors"]


def refusing(pattern: str, code: str, status: int = 403, after: int = 0) -> Fault:
    """Return a server's refusal, in S3's form, for the requests that match."""
    said = f"no,\n not {swift.PASSWORD}. "
    body = f"<Error><Code>{code}</Code><Message>{said}</Message></Error>".encode()
    xml = {"Content-Type": "application/xml"}
    return Fault(pattern, times=9, after=after, status=status, headers=xml, body=body)


@pytest.mark.parametrize(
    ("code", "status", "told"),
    [
        ("XMinioStorageFull", 507, "the server's disk is full; free some space there"),
        ("QuotaExceeded", 403, "the quota is used up; free some space there"),
        ("EntityTooLarge", 400, "the server takes no object of that size"),
        ("Unheard", 418, "Unheard: no, not ***; look at what the server's operator says about it"),
    ],
)
def test_a_server_s_refusal_says_what_to_do(
    recipe: Recipe,
    server: Swift,
    monkeypatch: pytest.MonkeyPatch,
    code: str,
    status: int,
    told: str,
) -> None:
    with faults.proxy(server.url.removeprefix("http://")) as proxy:
        configure(monkeypatch, ENDPOINT=f"http://{proxy.host}")
        proxy.faults.append(refusing("^PUT .*config.json", code, status))
        assert told in build(recipe)
    assert not paths.manifest("m", "upload").exists()


def test_credentials_that_expire_midway_are_named_and_no_part_is_sent_twice(
    recipe: Recipe, server: Swift, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploading, "WORKERS", 1)
    with faults.proxy(server.url.removeprefix("http://")) as proxy:
        configure(monkeypatch, ENDPOINT=f"http://{proxy.host}")
        proxy.faults.append(refusing("^PUT .*partNumber", "ExpiredToken", after=2))
        said = build(recipe)
        assert "ExpiredToken: the credentials have expired; get new ones" in said
        assert swift.PASSWORD not in said
        assert not paths.manifest("m", "upload").exists()
        proxy.faults.clear()
        proxy.seen.clear()
        assert build(recipe) == ""
        assert sum("partNumber" in line for line in proxy.seen) == 1


def test_a_proxy_is_used(
    recipe: Recipe, server: Swift, client: Minio, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faults.proxy(server.url.removeprefix("http://")) as proxy:
        configure(monkeypatch, ENDPOINT="http://s3.invalid")
        monkeypatch.setenv("http_proxy", f"http://{proxy.host}")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.setenv(name, "")
        assert build(recipe) == ""
        assert proxy.seen
        monkeypatch.setenv("no_proxy", "s3.invalid")
        monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)
        change(paths.output("m", "base"), "config.json", b"[]")
        assert "http://s3.invalid: no answer (NameResolutionError)" in build(recipe)
    assert set(objects(client, bucket)) == {f"m/{name}" for name in OUT}


def test_a_proxy_is_shown_the_password_of_its_address() -> None:
    pool = connection._through("user:p%40ss@h.invalid:1")()
    assert isinstance(pool, urllib3.ProxyManager)
    shown = base64.b64encode(b"user:p@ss").decode()
    assert pool.proxy_headers == {"proxy-authorization": f"Basic {shown}"}


@pytest.mark.parametrize("proxy", ["socks5://h.invalid:1", "http://", "http://h.invalid:99999"])
def test_a_proxy_s_address_that_is_none_is_refused(
    proxy: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    configure(monkeypatch, ENDPOINT="http://s3.invalid", ACCESS_KEY="a", SECRET_KEY="b")
    with pytest.raises(UserError, match="https_proxy: not the address of an http proxy"):
        buckets.Bucket("b")


def test_who_asks_quickly_does_not_wait_for_a_server_that_is_silent(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "QUICK", 0.1)
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: pytest.fail("it paused"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"http://127.0.0.1:{silent.getsockname()[1]}"
        configure(monkeypatch, ENDPOINT=where, ACCESS_KEY="a", SECRET_KEY="b")
        with (
            pytest.raises(UserError, match=f"^{where}: no answer"),
            connection.explained("b"),
        ):
            connection.connect(quick=True).list_buckets()


def test_who_asks_quickly_does_not_wait_as_long_as_a_busy_server_likes(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    clock = SimpleNamespace(sleep=pauses.append, time=time.time)
    monkeypatch.setattr("urllib3.util.retry.time", clock)
    with faults.proxy("nobody.invalid") as busy:
        busy.faults.append(Fault(".", times=99, status=503, headers={"Retry-After": "15"}))
        where = f"http://{busy.host}"
        configure(monkeypatch, ENDPOINT=where, ACCESS_KEY="a", SECRET_KEY="b")
        with (
            pytest.raises(UserError, match="answers nothing but errors"),
            connection.explained("b"),
        ):
            connection.connect(quick=True).list_buckets()
    assert 0 < sum(pauses) < connection.QUICK / 2


def test_uploads_that_nobody_finished_are_taken_away_after_a_day(
    recipe: Recipe, client: Minio, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.make_bucket(bucket)
    for name in ("m/old", "x/old"):
        upload_id = client._create_multipart_upload(bucket, name, {})
        client._upload_part(bucket, name, b"x" * 1000, None, upload_id, 1)
    assert build(recipe) == ""
    made = buckets.Bucket(bucket)
    assert made.abort_unfinished("m/") == 0
    with monkeypatch.context() as patch:
        parts = [Part(1, "", datetime.now(timezone.utc) + timedelta(days=1))]
        patch.setattr(buckets.Bucket, "parts", lambda *_: parts)
        assert made.abort_unfinished("m/", timedelta(seconds=-5)) == 0, "parts still come"
    assert made.abort_unfinished("m/", timedelta(seconds=-5)) == 1
    assert made.abort_unfinished("", timedelta(seconds=-5)) == 1, "another model's was touched"


def test_full_verification_reads_every_object_back(
    recipe: Recipe, client: Minio, bucket: str, capsys: Any
) -> None:
    assert build(recipe) == ""
    assert upload.verify_fully(recipe, "full") is None
    assert "read back: 4 objects" in capsys.readouterr().out
    sha256 = hashlib.sha256(FILES["config.json"]).hexdigest()
    client._put_object(bucket, "m/config.json", b"[]", {"x-amz-meta-sha256": sha256})
    failed = upload.verify_fully(recipe, "full")
    assert failed
    assert "m/config.json: the bucket holds other bytes" in failed.message
    assert not upload.is_unasked(SimpleNamespace(options={"verify": "full"}))
    assert upload.is_unasked(SimpleNamespace(options={"verify": "metadata"}))
    assert upload.is_unasked(SimpleNamespace(options=None))


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"SECRET_KEY": "wrong-secret"}, "SignatureDoesNotMatch: a wrong key; look at"),
        ({"ACCESS_KEY": "test:nobody"}, "SignatureDoesNotMatch: a wrong key; look at"),
        ({"ACCESS_KEY": ""}, "ACCESS_KEY and MODELWRIGHT_S3_SECRET_KEY: set both"),
        ({"ENDPOINT": "127.0.0.1:9000"}, "should be the address of an S3 server with its scheme"),
        ({"ENDPOINT": ""}, "MODELWRIGHT_S3_ENDPOINT is not set; say which S3 server"),
        ({"ENDPOINT": "http://["}, "should be the address of an S3 server"),
        ({"ENDPOINT": "ftp://127.0.0.1"}, "should be the address of an S3 server"),
        ({"ENDPOINT": "http://127.0.0.1:9"}, "http://127.0.0.1:9: no answer"),
        (
            {"ACCESS_KEY": swift.READER, "SECRET_KEY": swift.READER_PASSWORD},
            "AccessDenied: these credentials may not do that",
        ),
    ],
)
def test_wrong_settings_are_one_clear_error_without_the_keys(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch, values: dict[str, str], error: str
) -> None:
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)
    configure(monkeypatch, **values)
    said = build(recipe)
    assert error in said
    for secret in ("wrong-secret", swift.PASSWORD, swift.READER_PASSWORD):
        assert secret not in said
    assert not paths.manifest("m", "upload").exists()


def test_a_clock_that_is_wrong_is_named(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    from minio import time

    now = time.utcnow
    monkeypatch.setattr(time, "utcnow", lambda: now() - timedelta(hours=2))
    assert "RequestTimeTooSkewed: this machine's clock is wrong" in build(recipe)


def test_tls_is_trusted_only_when_its_ca_is_told(
    recipe: Recipe, server: Swift, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)
    configure(monkeypatch, ENDPOINT=server.tls)
    assert "its certificate is not trusted here; name its CA's file in SSL" in build(recipe)
    monkeypatch.setenv("SSL_CERT_FILE", str(server.ca))
    assert build(recipe) == ""


def test_a_server_that_speaks_no_tls_is_not_said_to_be_distrusted(
    recipe: Recipe, server: Swift, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("urllib3.util.retry.Retry.sleep", lambda *_: None)
    configure(monkeypatch, ENDPOINT=server.url.replace("http:", "https:"))
    assert "does not speak TLS; should MODELWRIGHT_S3_ENDPOINT begin with http://?" in build(recipe)


def test_what_is_no_s3_server_is_not_said_to_be_better_later(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with web.running() as site:
        configure(monkeypatch, ENDPOINT=site.url, ACCESS_KEY="a", SECRET_KEY="b")
        told = f"^b on {site.url}: the server answers 404; is that an S3 server's address\\?$"
        with pytest.raises(UserError, match=told), connection.explained("b"):
            connection.connect().list_buckets()
        site.pages["/"] = b"<html><br></html>"
        told = f"^{site.url}: answers, but not as an S3 server; is MODELWRIGHT_S3_ENDPOINT right"
        with pytest.raises(UserError, match=told), connection.explained("b"):
            connection.connect().list_buckets()


@pytest.mark.parametrize(
    ("status", "told"),
    [(404, "is that an S3 server's address"), (413, "no request of that size"),
     (429, "too many"), (503, "try later")],
)  # fmt: skip
def test_an_answer_without_a_word_of_s3_s_is_told_by_its_number(
    project: Project, monkeypatch: pytest.MonkeyPatch, status: int, told: str
) -> None:
    configure(monkeypatch, ENDPOINT="http://h", ACCESS_KEY="a", SECRET_KEY="b")
    answer = InvalidResponseError(status, "text/html", "<html>")
    with pytest.raises(UserError, match=f"answers {status}; .*{told}"), connection.explained("b"):
        raise answer


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (3 << 20) + 1])
def test_a_slow_network_has_the_time_out_for_each_mebibyte(size: int) -> None:
    content = bytes(range(256)) * (size // 256) + b"!" * (size % 256)
    found = pieces(memoryview(content))
    assert b"".join(found) == content if size else found == b""
    assert max(map(len, found), default=0) <= 1 << 20
    made = Client("h", access_key="a", secret_key="b", secure=True)
    told = [made._build_headers("h", None, body, None)[0] for body in (content, found)]
    assert told[0] == told[1]


def test_a_file_that_changes_while_it_is_sent_is_an_error(
    recipe: Recipe, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = paths.output("m", "base") / "model.safetensors"
    plain = Minio._upload_part

    def changing(*args: Any, **options: Any) -> str:
        with path.open("r+b") as file:
            file.write(b"!")
        return plain(*args, **options)

    monkeypatch.setattr(Minio, "_upload_part", changing)
    assert re.search("changed while it was sent", build(recipe))
    assert not paths.manifest("m", "upload").exists()


def test_a_file_that_is_not_what_was_built_is_refused_by_the_server(
    recipe: Recipe, client: Minio, bucket: str
) -> None:
    """A bit that flips on the disk changes no date; the metadata would say another sha256."""
    (paths.output("m", "base") / "config.json").write_bytes(b"[]")
    assert "BadDigest: bytes were damaged" in build(recipe)
    assert "m/config.json" not in objects(client, bucket)


@pytest.mark.parametrize("secure", [False, True])
def test_what_is_sent_is_hashed_for_its_signature_once_at_most(
    recipe: Recipe, server: Swift, monkeypatch: pytest.MonkeyPatch, secure: bool
) -> None:
    """The weights go in two parts; of a file that goes in one piece the digest is known."""
    if secure:
        configure(monkeypatch, ENDPOINT=server.tls)
        monkeypatch.setenv("SSL_CERT_FILE", str(server.ca))
    change(paths.output("m", "base"), "tokenizer.json", os.urandom(50_000))
    monkeypatch.setattr(uploading, "part_size", lambda size: 200_000)
    hashed, plain = list[int](), s3client._hashed

    def counted(kind: str, parts: Any) -> bytes:
        hashed.append(sum(map(len, parts)) if kind == "sha256" else 0)
        return plain(kind, parts)

    monkeypatch.setattr(s3client, "_hashed", counted)
    assert build(recipe) == ""
    assert sorted(count for count in hashed if count > 2000) == [100_000, 200_000]


def test_over_tls_each_body_goes_with_its_md5(
    recipe: Recipe, server: Swift, monkeypatch: pytest.MonkeyPatch, small_parts: None
) -> None:
    """A bucket at AWS with Object Lock takes nothing without."""
    plain, sent = urllib3.PoolManager.urlopen, dict[str, list[Any]]()

    def noted(pool: urllib3.PoolManager, method: str, url: str, **options: Any) -> Any:
        if method == "PUT" and options.get("body"):
            body = options["body"]
            content = b"".join(body) if isinstance(body, list) else body
            sent[url] = [options["headers"].get("Content-MD5"), md5sum_hash(content)]
        return plain(pool, method, url, **options)

    monkeypatch.setattr(urllib3.PoolManager, "urlopen", noted)
    configure(monkeypatch, ENDPOINT=server.tls)
    monkeypatch.setenv("SSL_CERT_FILE", str(server.ca))
    assert build(recipe) == ""
    assert sum("partNumber" in url for url in sent) == 3
    assert len(sent) > 3
    assert all(told == made for told, made in sent.values())


@pytest.mark.parametrize(
    "name", ["UPPER", "a", "a..b", "-a", "a-", "192.168.1.1", "with space", "x" * 64, "a/b", "a-.b"]
)
def test_a_name_that_s3_refuses_is_refused_while_loading(project: Project, name: str) -> None:
    with pytest.raises(LoadError, match=r"m.yaml:2: upload"):
        wanted(project, json.dumps(name))


@pytest.mark.parametrize("prefix", ["/a", "a/", "a//b", "../a", "a/./b", "a\\b", "a\nb"])
def test_a_prefix_that_misleads_is_refused(project: Project, prefix: str) -> None:
    with pytest.raises(LoadError, match="upload"):
        wanted(project, "bucket", f", prefix: {json.dumps(prefix)}")


@pytest.mark.parametrize(
    ("size", "part", "count"),
    [
        (1, 32 << 20, 1),
        (32 << 20, 32 << 20, 1),
        (5_000_000_000, 32 << 20, 150),
        (100 << 30, 104 << 20, 985),
        (5 << 40, 5244 << 20, 1000),
    ],
)
def test_parts_are_large_and_few(size: int, part: int, count: int) -> None:
    assert plans.part_size(size) == part
    assert -(-size // part) == count <= plans.PARTS


@pytest.fixture(autouse=True)
def no_settings_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    yield
    settings.current.cache_clear()


def test_unship_removes_what_was_sent_and_nothing_else(
    recipe: Recipe, client: Minio, bucket: str, project: Project
) -> None:
    assert build(recipe) == ""
    for name in ("m/theirs", "m/config.json"):
        client.put_object(bucket, name, io.BytesIO(b"theirs"), 6)
    assert shipping.unship({"upload": upload}, recipe) is None
    assert {found.object_name for found in client.list_objects(bucket, recursive=True)} == {
        "m/theirs",
        "m/config.json",
    }
    assert not (project.build / "m/upload").exists()


def unfinished(client: Minio, bucket: str) -> int:
    """Return how many uploads in parts wait to be finished."""
    answer = client._execute("GET", bucket, query_params={"uploads": "", "prefix": "m/"})
    return int(answer.data.count(b"<UploadId>"))


def test_unship_takes_away_what_a_killed_upload_has_sent(
    recipe: Recipe,
    client: Minio,
    bucket: str,
    small_parts: None,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Minio, "_complete_multipart_upload", killed)
        with pytest.raises(SystemExit):
            build(recipe)
    assert unfinished(client, bucket) == 1
    client.put_object(bucket, "m/config.json", io.BytesIO(b"theirs"), 6)
    there = len(objects(client, bucket))
    assert shipping.unship({"upload": upload}, recipe) is None
    said = capsys.readouterr().out
    assert "1 unfinished uploads aborted in" in said
    assert (f"{there - 1} objects removed from" in said) == (there > 1)
    assert objects(client, bucket) == {"m/config.json": b"theirs"}
    assert unfinished(client, bucket) == 0
    assert not list((project.build / "m").glob(".upload-*"))


def test_unship_takes_away_an_upload_that_was_killed_before_its_receipt(
    recipe: Recipe, client: Minio, bucket: str, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(upload, "_verify", killed)
        for content in (b"[1]", b"[2]"):
            change(project.build / "m/base", "config.json", content)
            with pytest.raises(SystemExit):
                build(recipe)
    assert len(objects(client, bucket)) == len(OUT)
    assert shipping.unship({"upload": upload}, recipe) is None
    assert objects(client, bucket) == {}
    assert not paths.note("m", "upload").exists()


def test_unship_from_another_server_forgets_nothing(
    recipe: Recipe,
    client: Minio,
    bucket: str,
    project: Project,
    server: Swift,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert build(recipe) == ""
    configure(monkeypatch, ENDPOINT=server.url.replace("127.0.0.1", "localhost"))
    failed = shipping.unship({"upload": upload}, recipe)
    assert failed
    assert f"the objects are at {server.url}; set MODELWRIGHT_S3_ENDPOINT to" in failed.get_msg()
    assert len(objects(client, bucket)) == len(OUT)
    assert (project.build / "m/upload/manifest.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(stage, "forced", lambda: True)
        assert build(recipe) == ""
    assert f"the objects at {server.url}/{bucket}/m/ stay; unship" in capsys.readouterr().out
