"""A recipe that cannot be read: what goes on without it, what refuses, and what is said of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks import ON_REQUEST, OUTWARD, STAGES, report
from tasks.core import paths, settings
from tasks.core.commands.loader import Loader
from tasks.core.engine import pipeline, shipping, untouched
from tasks.core.errors import LoadError
from tasks.core.report import index
from tests.conftest import Project, doit

TINY = Path("recipes/tiny-agent/base").absolute()
GOOD = f"base: {{path: {TINY}}}\nimage: {{base: scratch, repository: a/b}}\n"
TYPOS = "base: {path: base}\ntrian: {}\nimge: {}\n"


@pytest.fixture(autouse=True)
def another_process_s_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave other tests of this process without the note that there was one."""
    monkeypatch.setattr(untouched, "_warned", False)


@pytest.fixture
def typo(project: Project) -> str:
    """Write a good recipe and one with two faults; return these as they are told."""
    project.recipe("good", GOOD)
    path = project.recipes / "typo.yaml"
    path.write_text(TYPOS)
    return (
        f"{path}:2: trian: unknown key, perhaps you meant 'train'?\n"
        f"{path}:3: imge: unknown key, perhaps you meant 'image'?"
    )


@pytest.fixture
def warned(typo: str) -> str:
    """Return what is said of the bad recipe where it is left out."""
    first, _ = typo.splitlines()
    return f"warning: left out: {first} (+1 more; `doit info typo` shows all)\n"


def run(project: Project, *words: str) -> subprocess.CompletedProcess[str]:
    return doit(*words, build=project.build, recipes=project.recipes)


def load(command: str, words: Sequence[str] = ()) -> list[str]:
    """Return the names of the tasks that a command gets, in this process."""
    settings.current.cache_clear()
    recipes, broken = pipeline.recipes(STAGES)
    loader = Loader()
    loader.namespace = {
        "STAGES": STAGES,
        "BROKEN": broken,
        "task_pipeline": lambda: (yield from pipeline.tasks(STAGES, recipes)),
        "task_models": lambda: (yield from pipeline.models(STAGES, ON_REQUEST, recipes)),
        "task_ship": lambda: (yield from shipping.tasks(STAGES, OUTWARD, recipes)),
    }
    command_of_doit = SimpleNamespace(name=command, execute_tasks=command == "run")
    return [task.name for task in loader.load_tasks(command_of_doit, list(words))]


@pytest.mark.parametrize(
    "line",
    ["run good", "run base:good", "run *:good", "plan good", "why image:good", "info good",
     "check good", "clean good", "list", "list --all", "list base", "report", "report good", "gc",
     "help good", "help base", "info base", "run toolchain", "run toolchain:typo", "run typo2",
     "run good:typo"],
)  # fmt: skip
def test_what_is_about_others_goes_on_with_a_line_on_stderr(
    warned: str, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    command, *words = line.replace(" --all", "").split()
    found = load(command, words)
    assert {"good", "base:good"} <= set(found)
    assert not [name for name in found if "typo" in name]
    assert capsys.readouterr().err == warned


@pytest.mark.parametrize(
    "line",
    ["run typo", "run good typo", "run train:typo", "run good ship:typo", "run update:typo",
     "run *:typo", "run ty*", "run *:t*", "run good BUILD/typo/merge/model.safetensors",
     "plan typo", "why typo", "info typo", "list typo", "report typo", "check base:typo",
     "clean typo", "help typo"],
)  # fmt: skip
def test_what_is_about_it_says_all_of_its_faults(project: Project, typo: str, line: str) -> None:
    command, *words = line.replace("BUILD", str(paths.build())).split()
    with pytest.raises(LoadError) as caught:
        load(command, words)
    assert str(caught.value) == typo


@pytest.mark.parametrize(
    "line", ["run", "plan", "why", "check", "clean", "run base", "run good ship", "run *", "run b*"]
)
def test_what_would_build_or_judge_all_says_all_faults_of_all(
    project: Project, typo: str, line: str
) -> None:
    (project.recipes / "worse.yaml").write_text("base: [\n")
    command, *words = line.split()
    with pytest.raises(LoadError) as caught:
        load(command, words)
    told = str(caught.value)
    assert told.startswith(typo)
    assert f"{project.recipes}/worse.yaml:" in told


def test_each_bad_recipe_has_a_line_of_its_own(
    project: Project, typo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (project.recipes / "Big one.yaml").write_text(GOOD)
    (project.recipes / "merge.yaml").write_text(GOOD)
    (project.recipes / "noise.yaml").write_bytes(b"\xff")
    load("plan", ["good"])
    said = capsys.readouterr().err.splitlines()
    starts = ("Big one.yaml: 'Big one' cannot", "merge.yaml: 'merge' is", "noise.yaml: byte 0",
              "typo.yaml:2: trian")  # fmt: skip
    assert len(said) == len(starts)
    for line, start in zip(said, starts, strict=True):
        assert line.startswith(f"warning: left out: {project.recipes}/{start}")


def test_a_name_of_two_words_can_be_asked_about(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.recipe("good", GOOD)
    (project.recipes / "Big one.yaml").write_text(TYPOS)
    load("plan", ["good"])
    assert "(+2 more; `doit info 'Big one'` shows all)" in capsys.readouterr().err
    with pytest.raises(LoadError, match="trian"):
        load("info", ["Big one"])


def test_of_two_files_for_one_model_neither_is_taken(
    project: Project, typo: str, capsys: pytest.CaptureFixture[str]
) -> None:
    project.recipe("twice", GOOD)
    (project.recipes / "twice.yml").write_text(GOOD)
    assert "base:twice" not in load("plan", ["good"])
    with pytest.raises(LoadError, match=r"twice\.yml: there is twice\.yaml, too; keep one of"):
        load("plan", ["base:twice"])


def test_what_a_terminal_would_obey_is_spelled_out(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.recipe("good", GOOD)
    (project.recipes / "a\x1b[2J.yaml").write_text('"a\\e[2J\\u2028\\nb": 1\n')
    load("plan", ["good"])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.rstrip("\n").isprintable()
    assert "(+2 more; `doit info 'a\\x1b[2J'` shows all)" in said
    with pytest.raises(LoadError) as caught:
        load("plan")
    assert len(caught.value.faults) == 3
    assert "a\\x1b[2J\\u2028\\nb: unknown key" in "".join(caught.value.faults)


def test_where_all_can_be_read_nothing_is_said(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    project.recipe("good", GOOD)
    assert "good" in load("run")
    assert capsys.readouterr().err == ""


def test_a_default_that_cannot_be_read_stops_no_other(
    project: Project, typo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELWRIGHT_DEFAULT", "typo")
    settings.current.cache_clear()
    assert pipeline.default(*pipeline.recipes(STAGES)) == ["typo"]


def test_a_build_of_another_model_ends_well_and_warns_each_time(
    project: Project, warned: str
) -> None:
    first, second = run(project, "image:good"), run(project, "image:good")
    assert (first.returncode, first.stderr) == (second.returncode, second.stderr) == (0, warned)
    assert second.stdout.splitlines() == ["-- base:good", "-- image:good"]


def test_plain_doit_refuses_before_anything_runs(project: Project, typo: str) -> None:
    done = run(project)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", f"ERROR: {typo}\n")
    assert not project.build.exists()


def test_the_list_shows_it_and_json_stays_json(project: Project, typo: str, warned: str) -> None:
    done, told = run(project, "list"), run(project, "list", "--json")
    assert (done.returncode, done.stderr, told.stderr) == (0, warned, warned)
    assert done.stdout.splitlines()[-1].split(maxsplit=1) == [
        "typo",
        "cannot be read; `doit info typo` says why",
    ]
    assert json.loads(told.stdout)[-1] == {
        "task": "typo",
        "doc": "cannot be read; `doit info typo` says why",
        "stage": None,
        "model": "typo",
        "faults": typo.splitlines(),
    }


@pytest.mark.parametrize("words", [["gc", "--all"], ["clean", "--all"], ["clean", "good"]])
def test_what_a_bad_recipe_s_model_has_stays(project: Project, typo: str, words: list[str]) -> None:
    kept = [project.result("typo", "base", {"a": b"a"}) / "a"]
    for name in (".train-0123456789ab", ".merge-0123456789ab", "logs"):
        kept.append(project.build / "typo" / name / "file")
        kept[-1].parent.mkdir()
        kept[-1].write_text("a")
    done = run(project, *words, *["--json"] * (words[0] == "gc"))
    assert all(path.exists() for path in kept)
    assert done.returncode == (0 if words != ["clean", "--all"] else 3)
    if words[0] == "gc":
        assert json.loads(done.stdout)["freed"] == 0


def test_a_page_over_all_marks_it_and_leads_to_its_page_as_it_was(
    project: Project, typo: str
) -> None:
    good = project.recipe("good", GOOD)
    for name in ("typo", "a#b"):
        project.result(name, "report", {"index.html": b"as it was"})
    text = index.write(report.told_of, [good], ["typo", "a#b"]).read_text()
    assert "3 recipes, 0 built, 2 cannot be read." in text
    assert '<a href="typo/report/index.html">typo</a>' in text
    assert '<a href="a%23b/report/index.html">a#b</a>' in text
    assert text.index(">a#b<") < text.index(">good<") < text.index(">typo<")


def test_a_page_over_all_shows_names_that_are_not_utf_8_and_how_a_shell_takes_a_name(
    project: Project,
) -> None:
    page = project.build / "x\udcff" / "report" / "index.html"
    page.parent.mkdir(parents=True)
    page.touch()
    text = index.write(report.told_of, [], ["x\udcff", "two words"]).read_text()
    assert '<a href="x%FF/report/index.html">x\\udcff</a>' in text
    assert "`doit info &#39;two words&#39;` says why" in text


def test_where_there_is_no_other_recipe_a_wrong_word_is_no_call_for_a_first_one(
    project: Project,
) -> None:
    (project.recipes / "typo.yaml").write_text(TYPOS)
    done = run(project, "nothing-like-it")
    assert done.returncode == 3
    assert done.stderr.endswith(
        "ERROR: 'nothing-like-it' is no task; `doit list --all` shows all\n"
    )
