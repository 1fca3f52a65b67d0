"""doit keeps nothing of its own: manifests alone say what is fresh."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import doit

BASE = Path("recipes/tiny-agent/base").absolute()


def test_doit_leaves_no_database_and_knows_what_is_fresh(tmp_path: Path) -> None:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "m.yaml").write_text(f"base: {{path: {BASE}}}\n")
    before = set(Path().iterdir())
    first = doit("base:m", build=tmp_path / "build", recipes=recipes)
    second = doit("base:m", build=tmp_path / "build", recipes=recipes)
    assert first.stdout.startswith(".  base:m")
    assert second.stdout == "-- base:m\n"
    assert not [path for path in set(Path().iterdir()) - before if "doit" in path.name]


def test_a_result_of_another_process_is_known(tmp_path: Path) -> None:
    """Notes of doit's own would say that it never ran here."""
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "m.yaml").write_text(f"base: {{path: {BASE}}}\n")
    doit("base:m", build=tmp_path / "build", recipes=recipes)
    (tmp_path / "build").rename(tmp_path / "moved")
    assert doit("base:m", build=tmp_path / "moved", recipes=recipes).stdout == "-- base:m\n"
