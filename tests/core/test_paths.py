"""Paths: where results, logs and scratch folders are."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.core import paths, settings
from tests.conftest import Project


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("build", Path("build")),
        ("./build/", Path("build")),
        (str(paths.ROOT / "build"), Path("build")),
        ("/srv/build", Path("/srv/build")),
        ("~nobody-here/build", Path("~nobody-here/build")),
    ],
)
def test_the_build_folder_is_relative_where_it_lies_inside(
    monkeypatch: pytest.MonkeyPatch, given: str, found: Path
) -> None:
    monkeypatch.setenv("MODELWRIGHT_BUILD", given)
    settings.current.cache_clear()
    try:
        assert paths.build() == found
    finally:
        settings.current.cache_clear()


def test_a_stage_s_scratch_folder_lies_beside_its_place(project: Project) -> None:
    scratch = paths.scratch("m", "merge", "sha256:" + "ab" * 32)
    assert scratch.name == ".merge-abababababab"
    assert scratch.parent == paths.output("m", "merge").parent


def test_a_log_is_no_part_of_a_result(project: Project) -> None:
    assert not paths.log("m", "train").is_relative_to(paths.output("m", "train"))


def test_the_manifest_lies_in_its_stage_s_folder(project: Project) -> None:
    assert paths.manifest("m", "base") == project.build / "m/base/manifest.json"
