"""What the pages say is so: files exist, stages are listed, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tasks import ON_REQUEST, STAGES
from tasks.core import settings
from tasks.core.messages import messages
from tasks.core.paths import ROOT
from tests import pages

READMES = [Path("README.md"), Path("README.zh-CN.md")]
PAGES = [
    *READMES,
    Path("CONTRIBUTING.md"),
    *sorted(Path("docs").glob("*.md")),
]
# Every command on these is run, in order, in a project of its own; none trains.
RUN = [Path("docs", name) for name in ("commands.md", "troubleshooting.md", "model-onboarding.md")]
RUN += [Path("docs", name) for name in ("agentflan.md", "training.md", "fastgpt.md")]
# The tutorial trains, the READMEs show what it shows; what CONTRIBUTING tells to type is .ci/run.
ELSEWHERE = {*READMES, Path("docs/tutorial.md"), Path("CONTRIBUTING.md")}
# What torch says, and a reason that `doit why` gives.
FOREIGN = {"CUDA out of memory", "is not as it was made"}


@pytest.mark.parametrize("readme", READMES)
def test_the_readme_lists_every_stage_in_order(readme: Path) -> None:
    told = re.findall(r"^\| `(\w+)` \| ", readme.read_text("utf-8"), re.MULTILINE)

    assert told == list(STAGES)


@pytest.mark.parametrize("readme", READMES)
def test_the_readme_shows_the_recipe_as_it_is(readme: Path) -> None:
    lines = Path("recipes/tiny-agent.yaml").read_text("utf-8").splitlines()
    body = "\n".join(line for line in lines if not line.startswith("#"))

    assert body in readme.read_text("utf-8")


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


@pytest.mark.parametrize("page", RUN, ids=str)
def test_the_commands_of_a_page_print_what_it_shows(page: Path, tmp_path: Path) -> None:
    """`python -m tests.pages PAGE` fills a page with what is printed now."""
    place = pages.project(tmp_path / "modelwright")
    steps = pages.steps(page)
    assert steps
    for step in steps:
        printed = pages.run(step, place)
        assert pages.fits(step.shown, printed), (step.command, printed)


def test_what_no_test_runs_is_shown_as_no_console() -> None:
    """It stands in `sh` blocks, whose words are known, and `text` blocks."""
    consoles = {page for page in PAGES if pages.BLOCK.search(page.read_text("utf-8"))}
    assert consoles == {*RUN, *ELSEWHERE}


@pytest.mark.slow
def test_the_tutorial_goes_as_it_is_written(tiny: Path, xtuner: str, tmp_path: Path) -> None:
    """Its training is taken from the store, as it was done for other tests already."""
    place = pages.project(tmp_path / "modelwright")
    given = {
        "MODELWRIGHT_STORE": str(tiny.parent / ".store"),
        "MODELWRIGHT_TOOLCHAIN_XTUNER": xtuner,
    }
    for step in pages.steps(Path("docs/tutorial.md")):
        printed = pages.run(step, place, **given)
        assert pages.fits(step.shown, printed), (step.command, printed)


@pytest.mark.parametrize("readme", READMES)
def test_the_readme_shows_what_the_tutorial_shows(readme: Path) -> None:
    """And that is run."""
    tutorial = [step for step in pages.steps(Path("docs/tutorial.md")) if step.command == "./doitw"]
    for step, told in zip(pages.steps(readme)[:2], tutorial, strict=False):
        assert step.command == "./doitw"
        assert pages.fits(told.shown, step.shown), step.shown


def mentioned() -> list[tuple[str, str]]:
    """Return every `doit ...` that a page tells people to type, with the page."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        blocks = re.findall(r"^```(?:console|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        lines = [line for block in blocks for line in block.splitlines()]
        found += [
            (str(page), match[1].partition("  #")[0].partition(" | ")[0])
            for line in lines
            if (match := re.match(r"(?:\$ )?\./doitw ?(.*)", line))
        ]
    return found


def plugins() -> dict[str, tuple[str, str]]:
    """Return our commands, each with its module and class."""
    text = Path("pyproject.toml").read_text("utf-8").split("[tool.doit.plugins.command]")[1]
    rows = re.findall(r'^([\w-]+) = "([\w.]+):(\w+)"$', text.split("\n[")[0], re.MULTILINE)
    return {name: (module, kind) for name, module, kind in rows}


def test_every_command_in_the_pages_is_one(tmp_path: Path) -> None:
    """Also where it is not run, as it wants a network or a GPU: its words are known."""
    commands = {*plugins(), "test", "clean", "run"}
    shipped = {path.stem for path in Path("recipes").glob("*.yaml")}
    models = shipped | {"my-agent", "my-model", "MODEL"}
    groups = {*STAGES, "ship", "unship", "update", "toolchain"}
    for page, line in mentioned():
        words = [word for word in shlex.split(line) if not word.startswith("-")]
        if not words or words[0] in commands:
            continue
        for word in words:
            stage, _, model = word.partition(":")
            known = (stage in groups and model in {*models, "xtuner"}) or word in models
            assert known or word.isdigit() or "=" in word, (page, line)


def test_the_reference_has_every_command_and_option() -> None:
    text = Path("docs/commands.md").read_text("utf-8")
    for name, (module, kind) in plugins().items():
        if module.endswith(("commands.forget", "commands.run")):  # doit's own options
            assert f"`{name}`" in text
            continue
        assert f"## doit {name}\n" in text, name
        part = text.split(f"## doit {name}\n")[1].split("\n## ")[0]
        command = getattr(__import__(module, fromlist=[kind]), kind)
        told = set(re.findall(r"`(--[\w-]+)`", part))
        assert told == {f"--{each['long']}" for each in command.cmd_options if each["long"]}, name


def test_the_reference_has_every_setting() -> None:
    told = re.findall(r"^\| (MODELWRIGHT_\w+) \|", Path("docs/settings.md").read_text(), re.M)

    assert set(told) == {f"{settings.PREFIX}{name.upper()}" for name in settings.NAMES}


def test_every_heading_of_troubleshooting_is_said_by_the_code() -> None:
    text = Path("docs/troubleshooting.md").read_text("utf-8")
    said = [message.text for message in messages()]
    for heading in set(re.findall(r"^### `(.*)`$", text, re.MULTILINE)) - FOREIGN:
        # The guess is made elsewhere.
        parts = re.split(r"\.\.\.|, perhaps you meant", heading)
        parts = [part.strip(" ,") for part in parts]
        assert any(all(part in each for part in parts) for each in said), heading


def test_the_pages_that_are_run_need_no_folder_of_ours() -> None:
    for page in RUN:
        assert str(ROOT) not in page.read_text("utf-8")


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        (["a  (0.1 s)"], ["a  (2:40)"], True),
        (["a  (0.1 s)"], ["a  (0.3 s, restored)"], True),
        (["made 1 on vm, built in 0.0 s"], ["made 2 on pc-1, restored in 0.1 s"], True),
        (["a", "...", "z"], ["a", "b", "c", "z"], True),
        (["a"], ["a", "b"], False),
        (["a 1 file"], ["a 1 folder"], False),
        ([], ["a"], False),
    ],
)
def test_only_numbers_and_times_may_differ(
    shown: list[str], printed: list[str], same: bool
) -> None:
    assert pages.fits(shown, printed) is same
