"""What the pages say is so: files exist, stages are listed, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tasks import ON_REQUEST, STAGES

PAGES = [Path("README.md"), Path("CONTRIBUTING.md"), *sorted(Path("docs").glob("*.md"))]


def test_the_readme_lists_every_stage_in_order() -> None:
    told = re.findall(r"^\| `(\w+)` \| ", Path("README.md").read_text("utf-8"), re.MULTILINE)

    assert told == list(STAGES)


def test_the_readme_shows_the_recipe_as_it_is() -> None:
    lines = Path("recipes/tiny-agent.yaml").read_text("utf-8").splitlines()
    body = "\n".join(line for line in lines if not line.startswith("#"))

    assert body in Path("README.md").read_text("utf-8")


def test_what_the_readme_draws_of_the_tree_is_there() -> None:
    drawn = Path("README.md").read_text("utf-8").split("## How it is laid out")[1].split("```")[1]
    core = ""
    for line in drawn.strip("\n").splitlines():
        name = line.split()[0]
        core = "" if not line.startswith(" ") else "tasks/core/"
        assert Path(core, name).exists(), line


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        if "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_no_page_has_a_gap_to_fill(page: Path) -> None:
    assert re.findall(r"@[A-Z_]+@|TODO|FIXME", page.read_text("utf-8")) == []


def test_every_stage_on_request_is_a_stage() -> None:
    assert set(STAGES) >= ON_REQUEST
