"""Files and archives behind URLs."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from tasks import archive, base, data
from tasks.core import paths
from tasks.core.engine import digests, stage
from tasks.core.errors import LoadError
from tasks.core.sources import archives
from tests.conftest import Project
from tests.core.sources.test_hub import content, model
from tests.services import web
from tests.services.web import Web

FILES = {"a.jsonl": b'{"conversation": []}\n', "sub/b.jsonl": b"x" * 50_000}


@pytest.fixture
def served() -> Iterator[Web]:
    with web.running() as server:
        yield server


def zipped(files: dict[str, bytes], link: str = "") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, value in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16 if name == link else 0o644 << 16
            archive.writestr(info, value)
    return packed.getvalue()


def tarred(
    files: dict[str, bytes],
    kind: bytes = tarfile.REGTYPE,
    mode: str = "w:gz",
    only: str = "",
) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:  # type: ignore[call-overload]
        for name, value in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.linkname = len(value), "/etc/passwd"
            info.type = kind if only in ("", name) else tarfile.REGTYPE
            archive.addfile(info, io.BytesIO(value))
    return packed.getvalue()


def build_base(project: Project, served: Web, name: str, packed: bytes) -> str:
    served.pages[f"/{name}"] = packed
    text = f"base: {{http: '{served.url}/{name}', digest: '{digests.of_bytes(packed)}'}}\n"
    failed = stage.act("base", base, project.recipe("m", text))
    return str(failed.message) if failed else ""


def build(
    project: Project, served: Web, name: str, content: bytes, digest: str = "", more: str = ""
) -> str:
    served.pages[f"/{name}"] = content
    digest = digest or digests.of_bytes(content)
    url = f"{served.url}/{name}"
    text = f"base: {{path: x}}\ndata: {{http: '{url}', digest: '{digest}'{more}}}\n"
    failed = stage.act("data", data, project.recipe("m", text))
    return str(failed.message) if failed else ""


@pytest.mark.parametrize(
    ("name", "archive"),
    [("d.zip", zipped(FILES)), ("d.tar.gz", tarred(FILES)), ("d.tar", tarred(FILES, mode="w:"))],
)
def test_an_archive_is_unpacked_and_not_kept(
    project: Project, served: Web, name: str, archive: bytes
) -> None:
    assert build(project, served, name, archive) == ""
    assert content(paths.output("m", "data")) == FILES
    assert not [p for p in (project.build / ".downloads").iterdir() if p.suffix != ".lock"]


def test_a_plain_file_is_taken_as_it_is(project: Project, served: Web) -> None:
    assert build(project, served, "d.jsonl", b"{}") == ""
    assert content(paths.output("m", "data")) == {"d.jsonl": b"{}"}


def test_a_file_that_is_here_already_is_not_asked_for(project: Project, served: Web) -> None:
    assert build(project, served, "d.jsonl", b"{}") == ""
    served.asked.clear()
    source = project.recipe("m", (project.recipes / "m.yaml").read_text()).data
    assert source
    archives.fetch(source, project.build / "again")
    assert (project.build / "again/d.jsonl").read_bytes() == b"{}"
    assert served.asked == []


def test_patterns_choose_from_an_archive(project: Project, served: Web) -> None:
    assert build(project, served, "d.zip", zipped(FILES), more=", allow: [sub/]") == ""
    assert list(content(paths.output("m", "data"))) == ["sub/b.jsonl"]


def test_two_builds_at_once_may_take_different_files_from_one_archive(
    project: Project, served: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.pages["/d.zip"] = zipped(FILES)
    digest = digests.of_bytes(served.pages["/d.zip"])
    text = f"base: {{path: x}}\ndata: {{http: '{served.url}/d.zip', digest: '{digest}'"
    first, second = (project.recipe(name, f"{text}, allow: [{pattern}]}}\n").data
                     for name, pattern in (("m", "a.jsonl"), ("n", "sub/")))  # fmt: skip
    assert first
    assert second
    unpack = archives.unpack
    with ThreadPoolExecutor(1) as pool:
        others: list[Future[None]] = []

        def unpack_meanwhile(*arguments: Any) -> None:
            if not others:
                others.append(pool.submit(archives.fetch, second, project.build / "second"))
                wait(others, timeout=0.5)
            unpack(*arguments)

        monkeypatch.setattr(archives, "unpack", unpack_meanwhile)
        archives.fetch(first, project.build / "first")
        others[0].result()
    assert content(project.build / "first") == {"a.jsonl": FILES["a.jsonl"]}
    assert content(project.build / "second") == {"sub/b.jsonl": FILES["sub/b.jsonl"]}


def test_what_is_wrong_with_a_model_is_told_of_the_url_s_file_without_its_key(
    project: Project, served: Web
) -> None:
    packed = zipped({**model(), "model.safetensors": b"short"})
    said = build_base(project, served, "m.zip?key=secret", packed)
    assert said.startswith(f"{served.url}/m.zip/model.safetensors: byte 0: ")
    assert "secret" not in said


def test_a_base_is_taken_from_the_zip_that_our_own_stage_made(
    project: Project, served: Web, tmp_path: Path
) -> None:
    files = {name: value for name, value in model().items() if not name.startswith(".")}
    for name, value in files.items():
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_bytes(value)
    archive.pack(tmp_path / "model", tmp_path / "merged.zip", "llama")
    assert build_base(project, served, "merged.zip", (tmp_path / "merged.zip").read_bytes()) == ""
    assert content(paths.output("m", "base")) == files


def test_of_a_base_the_one_folder_that_all_is_in_is_taken_off(
    project: Project, served: Web
) -> None:
    files = {
        "config.json": model()["config.json"],
        "model.safetensors": model()["model.safetensors"],
    }
    packed = {f"merged/{name}": value for name, value in files.items()}
    finder = {"__MACOSX/merged/._config.json": b"x", **packed}
    for name, made in (("m.zip", zipped(finder)), ("m.tar", tarred(packed, mode="w:"))):
        assert build_base(project, served, name, made) == ""
        assert content(paths.output("m", "base")) == files


@pytest.mark.parametrize(
    ("name", "called"),
    [
        ("m/../../x", "../../x"),
        ("m//etc/x", "/etc/x"),
        ("/m/x", "/m/x"),
        ("m/manifest.json", "manifest.json"),
    ],
)
def test_no_name_misleads_once_the_one_folder_is_off(
    project: Project, served: Web, name: str, called: str
) -> None:
    packed = zipped({"m/config.json": b"{}", name: b"x"})
    assert f"a file is called {called!r}" in build_base(project, served, "m.zip", packed)
    assert not paths.output("m", "base").exists()


@pytest.mark.parametrize("top", ["..", ""])
def test_a_base_s_one_folder_is_no_way_out(project: Project, served: Web, top: str) -> None:
    packed = zipped({f"{top}/{name}": b"{}" for name in ("config.json", "tokenizer.json")})
    assert f"a file is called '{top}/config.json'" in build_base(project, served, "m.zip", packed)


def test_a_tar_is_a_tar_whatever_its_last_file_is(project: Project, served: Web) -> None:
    """torch.save writes zips, and a small one is found from a tar's end."""
    files = {**FILES, "training_args.bin": zipped({"archive/data.pkl": os.urandom(300)})}
    packed = tarred(files, mode="w:")
    assert zipfile.is_zipfile(io.BytesIO(packed))
    assert build(project, served, "d.tar", packed) == ""
    assert content(paths.output("m", "data")) == files


@pytest.mark.parametrize(
    ("name", "archive"),
    [
        ("a\\b", zipped({**FILES, "a\\b": b"x"})),
        ("../x", zipped({**FILES, "../x": b"x"})),
        ("link", zipped({**FILES, "link": b"/etc/passwd"}, link="link")),
        ("link", tarred({**FILES, "link": b""}, tarfile.SYMTYPE, only="link")),
        ("manifest.json", tarred({**FILES, "manifest.json": b"{}"})),
        ("sub", zipped({**FILES, "sub": b"x"})),
    ],
)
def test_what_is_refused_can_be_left_out_as_the_message_says(
    project: Project, served: Web, name: str, archive: bytes
) -> None:
    file = "d.zip" if archive[:2] == b"PK" else "d.tar"
    refused = build(project, served, file, archive)
    assert repr(name) in refused
    assert "out with `ignore:`" in refused
    assert build(project, served, file, archive, more=f", ignore: ['{name}']") == ""
    assert content(paths.output("m", "data")) == FILES


@pytest.mark.parametrize("mode", ["w:", "w:gz"])
def test_a_tar_with_a_damaged_header_loses_no_file_silently(
    project: Project, served: Web, mode: str
) -> None:
    plain = bytearray(tarred(FILES, mode="w:"))
    plain[1024 + 3] ^= 1  # in the name of the second file
    packed = bytes(plain) if mode == "w:" else gzip.compress(plain)
    error = build(project, served, "d.tar", packed)
    assert "d.tar: damaged at byte 1024 of the tar, behind 'a.jsonl'" in error
    assert not paths.output("m", "data").exists()


def test_a_compressed_tar_is_checked_against_its_sum(project: Project, served: Web) -> None:
    packed = bytearray(tarred({"x": os.urandom(50_000)}))  # gzip keeps these bytes as they are
    packed[30_000] ^= 1
    assert "(CRC check failed" in build(project, served, "d.tar.gz", bytes(packed))


def with_byte(packed: bytes, at: int, value: int) -> bytes:
    return packed[:at] + bytes([value]) + packed[at + 1 :]


def compressed(method: int, value: bytes = bytes(range(256)) * 40) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as made:
        made.writestr("x", value)
    return packed.getvalue()


def marked(at: int, value: int) -> bytes:
    """Return a zip that says something else of its file, at its start and in its directory."""
    packed = compressed(zipfile.ZIP_DEFLATED)
    listed = packed.index(b"PK\x01\x02")
    return with_byte(with_byte(packed, at, value), listed + at + 2, value)


@pytest.mark.parametrize(
    ("name", "archive", "error"),
    [
        ("d.zip", marked(6, 1), "'x' is encrypted; make it anew without a password"),
        ("d.zip", marked(8, 9), "'x': packed in a way that Python cannot read .*not supported"),
        (
            "d.zip",
            with_byte(compressed(zipfile.ZIP_DEFLATED), 31, 255),
            "'x' is damaged .*Error -3",
        ),
        ("d.zip", with_byte(compressed(zipfile.ZIP_BZIP2), 500, 0), "'x' is damaged .*Invalid"),
        ("d.zip", with_byte(compressed(zipfile.ZIP_LZMA), 60, 255), "'x' is damaged .*Corrupt"),
        ("d.zip", with_byte(compressed(zipfile.ZIP_STORED), 60, 255), "'x' is damaged .*CRC"),
        ("d.tar.xz", with_byte(tarred(FILES, mode="w:xz"), 100, 0), "no archive that can be read"),
        ("d.tar.gz", with_byte(tarred(FILES), 12, 255), "no archive that can be read"),
        ("d.zip", zipped({"a": b"", "a/b": b""}), "'a' is a file and a folder at once"),
    ],
)
def test_what_an_archive_is_wrong_in_is_told(
    project: Project, served: Web, name: str, archive: bytes, error: str
) -> None:
    message = build(project, served, name, archive)
    assert re.search(error, message)
    assert len(message.splitlines()) == 1
    assert not paths.output("m", "data").exists()


@pytest.mark.parametrize(
    ("name", "archive", "error"),
    [
        ("d.zip", zipped({"../x": b""}), "a file is called '../x'"),
        ("d.zip", zipped({"/etc/x": b""}), "a file is called '/etc/x'"),
        ("d.zip", zipped({"x": b"/etc/passwd"}, link="x"), "'x' is a link"),
        ("d.tar", tarred({"x": b""}, tarfile.SYMTYPE), "'x' is a link or device"),
        ("d.tar", tarred({"x": b""}, tarfile.CHRTYPE), "'x' is a link or device"),
        ("d.tar", tarred({"a\\b": b""}), r"a file is called 'a\\b'"),
        ("d.tar", b"nonsense" * 999, "no archive that can be read"),
        ("d.tar.gz", tarred(FILES)[:-20], "no archive that can be read"),
    ],
)
def test_a_hostile_or_broken_archive_writes_nothing(
    project: Project, served: Web, name: str, archive: bytes, error: str
) -> None:
    assert error in build(project, served, name, archive)
    assert not paths.output("m", "data").exists()


def test_other_bytes_than_the_digest_says_are_refused(project: Project, served: Web) -> None:
    other = digests.of_bytes(b"other")
    assert "the server sent other bytes" in build(project, served, "d.zip", b"xx", other)


def test_an_address_that_is_not_there_is_named_without_its_key(
    project: Project, served: Web
) -> None:
    digest = digests.of_bytes(b"")
    url = f"{served.url}/none.zip?for=s3cret"
    text = f"base: {{path: x}}\ndata: {{http: '{url}', digest: '{digest}'}}\n"
    failed = stage.act("data", data, project.recipe("m", text))
    assert failed
    assert "answers 404" in failed.message
    assert "s3cret" not in failed.message


@pytest.mark.parametrize(
    "query", ["X-Amz-Signature=s3cret", "a=1&sig=s3cret", "access_token=s3cret", "apikey=s3cret"]
)
def test_an_address_with_a_signature_is_no_part_of_a_recipe(project: Project, query: str) -> None:
    source = f"{{http: 'https://host/x.zip?{query}', digest: '{digests.of_bytes(b'')}'}}"
    with pytest.raises(LoadError, match="signature or a token") as refused:
        project.recipe("m", f"base: {{path: x}}\ndata: {source}\n")
    assert "s3cret" not in str(refused.value)


def test_an_address_needs_a_digest(project: Project) -> None:
    with pytest.raises(LoadError, match="http needs `digest: sha256:"):
        project.recipe("m", "base: {path: x}\ndata: {http: 'http://host/x.zip'}\n")
