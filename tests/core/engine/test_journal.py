"""What was changed outside is noted, and outlives runs that fail and results that go."""

from __future__ import annotations

import stat

import pytest

from tasks.core import paths
from tasks.core.engine import stage
from tasks.core.engine.journal import Journal
from tasks.core.errors import UserError
from tests.conftest import Project


def test_a_note_is_read_back_by_the_next_run(project: Project) -> None:
    assert Journal("m", "app").read() == {}
    Journal("m", "app").write({"before": {"name": "名"}})
    assert Journal("m", "app").read() == {"before": {"name": "名"}}
    assert Journal("m", "gateway").read() == Journal("other", "app").read() == {}


def test_a_note_takes_the_place_of_the_last_one_and_an_empty_one_is_none(project: Project) -> None:
    journal = Journal("m", "app")
    journal.write({"first": 1})
    journal.write({"second": 2})
    assert journal.read() == {"second": 2}
    journal.write({})
    journal.write({})
    assert list(journal.path.parent.iterdir()) == []


def test_only_its_owner_reads_a_note(project: Project) -> None:
    journal = Journal("m", "app")
    journal.write({"key": "somebody's"})
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("damaged", [b"{", b"\xff"])
def test_a_damaged_note_is_named(project: Project, damaged: bytes) -> None:
    journal = Journal("m", "app")
    journal.write({"before": 1})
    journal.path.write_bytes(damaged)
    with pytest.raises(UserError, match=f"^{journal.path}: a damaged note .*; put right by hand"):
        journal.read()


def test_a_note_outlives_the_result(project: Project) -> None:
    project.result("m", "app", {"app.json": b"{}"})
    Journal("m", "app").write({"before": 1})
    stage.clean("app", project.recipe("m", "base: {path: x}"))
    assert not paths.output("m", "app").exists()
    assert Journal("m", "app").read() == {"before": 1}
