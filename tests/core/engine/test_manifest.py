"""Manifests: one spelling, read back as written, and never trusted when damaged."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.engine import manifest
from tasks.core.engine.manifest import File, Manifest
from tests.conftest import Project

TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(TEXT, VALUES, max_size=4)
FILES = st.builds(File, TEXT, st.integers(0, 2**60), TEXT)


def shuffled(value: Any, chance: random.Random) -> Any:
    """Return an equal value whose objects have another order."""
    if isinstance(value, list):
        return [shuffled(item, chance) for item in value]
    if not isinstance(value, dict):
        return value
    keys = list(value)
    chance.shuffle(keys)
    return {key: shuffled(value[key], chance) for key in keys}


@given(VALUES, st.randoms(use_true_random=False))
def test_the_order_of_keys_changes_no_digest(value: Any, chance: random.Random) -> None:
    other = shuffled(value, chance)
    assert manifest.canonical(value) == manifest.canonical(other)
    assert manifest.digest_of(value) == manifest.digest_of(other)


@given(VALUES)
def test_canonical_json_is_json_of_the_same_value(value: Any) -> None:
    assert json.loads(manifest.canonical(value)) == value


def test_canonical_json_has_one_spelling() -> None:
    assert manifest.canonical({"b": [1, 2.5], "a": "ä"}) == '{"a":"ä","b":[1,2.5]}'.encode()


@given(OBJECTS, OBJECTS)
def test_other_inputs_have_another_key(one: dict[str, Any], two: dict[str, Any]) -> None:
    same = manifest.canonical(one) == manifest.canonical(two)
    assert (manifest.key_of("merge", one) == manifest.key_of("merge", two)) is same
    assert manifest.key_of("merge", one) != manifest.key_of("base", one)


@given(inputs=OBJECTS, facts=OBJECTS, files=st.lists(FILES, max_size=3).map(tuple), model=TEXT)
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    inputs: dict[str, Any],
    facts: dict[str, Any],
    files: tuple[File, ...],
    model: str,
) -> None:
    folder = tmp_path_factory.getbasetemp() / "manifests"
    folder.mkdir(exist_ok=True)
    written = Manifest(model, "base", manifest.key_of("base", inputs), inputs, files, facts)
    manifest.write(written, folder)
    assert manifest.read(folder / manifest.NAME) == written


def content(**changes: Any) -> dict[str, Any]:
    """Return what a valid manifest.json holds, with changes."""
    sound = {"version": 1, "model": "m", "stage": "base", "key": manifest.key_of("base", {}),
             "inputs": {}, "files": [], "facts": {}}  # fmt: skip
    return {**sound, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"version": 2},
        {"key": "sha256:0"},
        {"inputs": {"a": 1}},
        {"stage": "data"},
        {"files": None},
        {"files": [{"path": "a"}]},
        {"files": [{"path": "a", "size": "1", "digest": "d"}]},
        {"files": [{"path": "a", "size": 1, "digest": "d", "mode": 1}]},
        {"facts": None},
        {"facts": []},
    ],
)
def test_a_manifest_that_contradicts_itself_counts_as_none(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    path = tmp_path / manifest.NAME
    path.write_text(json.dumps(content()))
    assert manifest.read(path) is not None
    path.write_text(json.dumps(content(**changes)))
    assert manifest.read(path) is None


@pytest.mark.parametrize("raw", [b"", b"\xff", b"[]", b"null", b"{", b"[" * 100_000])
def test_a_damaged_manifest_counts_as_none(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / manifest.NAME).write_bytes(raw)
    assert manifest.read(tmp_path / manifest.NAME) is None


def test_a_manifest_cut_at_any_byte_counts_as_none(tmp_path: Path) -> None:
    whole = json.dumps(content(files=[{"path": "a", "size": 1, "digest": "d"}])).encode()
    path = tmp_path / manifest.NAME
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert manifest.read(path) is None


def test_a_manifest_holds_no_time_host_user_or_absolute_path(project: Project) -> None:
    folder = project.result("m", "base", {"a": b"1"})
    text = (folder / manifest.NAME).read_text()
    assert str(project.build) not in text
    assert set(json.loads(text)) == {*content()}


def test_files_are_described_in_order_with_size_and_digest(project: Project) -> None:
    folder = project.result("m", "base", {"b": b"22", "a/c": b"1", "a.d": b""})
    found = manifest.describe(folder)
    assert [(file.path, file.size) for file in found] == [("a.d", 0), ("b", 2), ("a/c", 1)]


@pytest.mark.parametrize("harm", ["longer", "same size", "gone", "a folder", "a dead link"])
def test_a_result_that_was_touched_is_not_intact(project: Project, harm: str) -> None:
    folder = project.result("m", "base", {"a": b"1"})
    receipt = manifest.read(folder / manifest.NAME)
    assert receipt is not None
    assert manifest.intact(receipt, folder)
    path = folder / "a"
    if harm in ("longer", "same size"):
        path.write_bytes(b"11" if harm == "longer" else b"2")
    else:
        path.unlink()
    if harm == "a folder":
        path.mkdir()
    if harm == "a dead link":
        path.symlink_to("nowhere")
    assert not manifest.intact(receipt, folder)


def test_a_result_whose_times_alone_changed_is_intact(project: Project) -> None:
    folder = project.result("m", "base", {"a": b"1"})
    receipt = manifest.read(folder / manifest.NAME)
    assert receipt is not None
    os.utime(folder / "a", (1, 1))
    assert manifest.intact(receipt, folder)


def test_a_stage_may_say_its_content_itself() -> None:
    plain = Manifest("m", "config", "k", {}, (File("a", 1, "d"),), {})
    other = Manifest("m", "config", "k", {}, (File("a", 1, "e"),), {})
    told = [Manifest("m", "config", "k", {}, m.files, {"content": "c"}) for m in (plain, other)]
    assert plain.content != other.content
    assert [m.content for m in told] == ["c", "c"]


def test_walking_tells_of_links_to_folders_too(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").touch()
    (tmp_path / "a").symlink_to("b")
    assert [str(p.relative_to(tmp_path)) for p in manifest.walk(tmp_path)] == ["a", "b/x"]


def test_walking_says_when_a_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(manifest.walk(tmp_path / "none"))
