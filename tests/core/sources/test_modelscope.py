"""Sources on ModelScope."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tasks import data
from tasks.core import paths
from tasks.core.engine import digests, stage
from tasks.core.sections import Data
from tasks.core.sources import modelscope, transfer
from tests.conftest import Project
from tests.core.sources.test_hub import build, content, lock, model
from tests.services import web
from tests.services.web import Web

RECIPE = "base: {modelscope: org/model}\n"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    with web.running() as server:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.url)
        publish(server, model(), "c1")
        yield server


def publish(server: Web, files: dict[str, bytes], commit: str, repository: str = "") -> None:
    """Put files on the server, all last changed by one commit."""
    entries = [{"Path": "sub", "Type": "tree", "Size": 0, "Sha256": ""}]
    root = f"/api/v1/{repository or 'models/org/model'}/repo"
    for name, value in files.items():
        sha256 = digests.of_bytes(value).removeprefix("sha256:")
        entry = {"Path": name, "Type": "blob", "Size": len(value), "Sha256": sha256}
        entries.append({**entry, "Revision": commit})
        server.pages[f"{root}?Revision={commit}&FilePath={quote(name, safe='')}"] = value
    listing = json.dumps({"Code": 200, "Data": {"Files": entries}}).encode()
    server.pages[f"{root}/files?Revision=master&Recursive=True"] = listing
    page = "&PageNumber=1&PageSize=200"
    server.pages[f"{root}/tree?Revision=master&Recursive=True{page}"] = listing


def test_the_files_come_in_by_the_commit_that_changed_them(project: Project, served: Web) -> None:
    recipe = project.recipe("m", RECIPE)
    assert build(recipe) == ""
    made = content(paths.output("m", "base"))
    assert sorted(made) == ["config.json", "model.safetensors", "sub/notes.txt", "tokenizer.json"]
    assert {entry["commit"] for entry in lock(recipe)["files"].values()} == {"c1"}


def test_a_cut_file_goes_on_where_it_ended(
    project: Project, served: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "BLOCK", 10_000)
    recipe = project.recipe("m", RECIPE)
    from tasks import base

    base.settle(recipe)
    served.cut = 20_000
    assert build(recipe) == ""
    assert any(headers.get("Range") == "bytes=20000-" for _, headers in served.asked)


def test_a_dataset_is_listed_page_by_page(project: Project, served: Web) -> None:
    publish(served, {"a.jsonl": b"{}"}, "c2", "datasets/org/data")
    recipe = project.recipe("m", RECIPE + "data: {modelscope: org/data}\n")
    assert stage.act("data", data, recipe) is None
    assert content(paths.output("m", "data")) == {"a.jsonl": b"{}"}
    assert len(modelscope.resolve(Data(modelscope="org/data"))[1]) == 1


def test_a_token_is_sent_and_never_shown(
    project: Project, served: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELSCOPE_API_TOKEN", "ms-secret")
    error = build(project.recipe("m", "base: {modelscope: org/none}\n"))
    assert error.startswith("org/none: http://127.0.0.1")
    assert "answers 404: it is not there" in error
    assert "ms-secret" not in error
    assert {headers.get("Authorization") for _, headers in served.asked} == {"Bearer ms-secret"}


def test_a_listing_that_is_cut_off_is_refused(
    project: Project, served: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(modelscope, "LIMIT", 3)
    assert "which ModelScope does not list" in build(project.recipe("m", RECIPE))
