"""report: one page about a build, looked at in a real browser."""

from __future__ import annotations

import importlib.resources
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import STAGES, report
from tasks.core import paths
from tasks.core.engine import inputs, ledger, manifest, stage
from tasks.core.engine.manifest import Manifest
from tasks.core.recipe import Recipe
from tasks.core.report import index, page
from tests.conftest import Project, doit
from tests.services import chromium
from tests.services.chromium import Browser, Page

RECIPE = """
base: {path: base}
data: {path: data}
train: {prompt_template: llama3_chat, max_iters: 200, dtype: float32, lr: 2e-4}
evaluate: {prompts: prompts.jsonl}
image: {base: scratch, repository: some/where}
"""
# What a model may well write, and what a page must never take for its own.
BAD = (
    '</pre><script>window.bad = 1</script><img src="http://127.0.0.1:9/" onerror="window.bad = 1">'
)


@pytest.fixture
def recipe(project: Project, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """Return a recipe with inputs, and no toolchain."""
    monkeypatch.setattr("tasks.core.toolchains.toolchain.digest", lambda name: "xtuner-0123")
    monkeypatch.setattr(
        "tasks.core.toolchains.toolchain.python", lambda name: "/opt/xtuner/bin/python"
    )
    for name in ("base", "data"):
        (project.recipes / "m" / name).mkdir(parents=True)
        (project.recipes / "m" / name / "file.json").write_text("{}")
    (project.recipes / "m" / "prompts.jsonl").write_text("{}\n")
    return project.recipe("m", RECIPE)


def row(number: int, before: bool, after: bool, tool: str, answer: str) -> dict[str, Any]:
    return {
        "messages": [
            {"role": "system", "content": "Use tools."},
            {"role": "user", "content": f"Question {number}? 今天天气怎么样？"},
        ],
        "expect": {"tool": tool, "arguments": {"to": "Ann"}},
        "group": "unseen_tool" if number % 5 == 0 else "",
        "base": {"answer": "I would call mail now.", "valid": before},
        "tuned": {"answer": answer, "valid": after},
    }


def answers() -> bytes:
    """Return an evaluation of 40 prompts: 10 failed, 2 of them only after tuning."""
    rows = [
        row(n, n < 2, n >= 10, "mail" if n % 2 else "search", "I would call search now.")
        for n in range(40)
    ]
    rows[3]["tuned"]["answer"] = BAD
    scores = {
        name: {
            "prompts": 32,
            "tool_call_valid": valid,
            "tool_called": valid,
            "tool_right": valid,
            "arguments_json": valid,
            "intervals": {"tool_call_valid": [valid - 0.05, valid + 0.05]},
            "by_tool": {"mail": valid, "search": valid},
            "apart": {"unseen_tool": {"prompts": 8, "valid": valid}},
        }
        for name, valid in (("base", 0.05), ("tuned", 0.75))
    }
    return json.dumps({"scores": scores, "prompts": rows}).encode()


FACTS: dict[str, dict[str, Any]] = {
    "base": {"revision": "local", "architecture": "LlamaForCausalLM"},
    "convert": {
        "rows": 2400,
        "turns": 2834,
        "roles": {"assistant": 2834, "user": 2834},
        "tokens": {"mean": 150, "most": 215, "histogram": {"64": 95, "128": 134, "256": 2171}},
    },
    "train": {"iterations": 200, "checkpoint": 200, "loss": 0.0291},
    "merge": {"tensors": 47, "parameters": 1_262_976, "dtype": "F16"},
    "evaluate": {"valid": "5.0% -> 75.0%"},
    "image": {"digest": f"sha256:{'70' * 32}", "layers": 1},
}


def built(project: Project, recipe: Recipe, *names: str, lines: int = 400) -> None:
    """Publish made-up results that are what the stages' inputs ask for; all if none are named."""
    for name in names or list(report.told_of(recipe)):
        files = {"report.json": answers()} if name == "evaluate" else {"a/file": b"x" * 2_000}
        folder = project.result(recipe.name, name, files)
        found = inputs.gather(STAGES[name], recipe)
        key = manifest.key_of(name, found)
        described = manifest.describe(folder)
        receipt = Manifest(recipe.name, name, key, found, described, FACTS.get(name, {}))
        manifest.write(receipt, folder)
        aside = paths.scratch(recipe.name, name, key).absolute()
        run = [f"/opt/xtuner/bin/python {paths.ROOT}/launch.py {aside}"]
        about = {"key": key, "seconds": 75.0, "bytes": receipt.size, "how": "built"}
        ledger.note(recipe.name, name, **about, commands=run)
    log = paths.log(recipe.name, "train").with_suffix(".jsonl")
    log.parent.mkdir(exist_ok=True)
    log.write_text("".join(line(n, lines) for n in range(1, lines + 1)))


def line(number: int, total: int) -> str:
    values = {
        "iter": number * 10,
        "total": total * 10,
        "lr": 2e-4 * (1 - number / total),
        "time": 0.31,
        "data_time": 0.011,
        "memory": 11_402,
        "grad_norm": 1.2345,
        "loss": 4 / number + 0.02 * (number % 7),
        "tflops": 12.3,
        "tokens_per_sec": 4000.5 + number % 50,
    }
    return json.dumps(values) + "\n"


@pytest.fixture
def written(project: Project, recipe: Recipe) -> Path:
    """Return the page of a whole build."""
    built(project, recipe)
    return page.write(report.told_of(recipe), recipe)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium.running() as running:
        yield running


@pytest.fixture
def shown(written: Path, browser: Browser) -> Page:
    """Return the page of a whole build, open in a browser."""
    opened = browser.page()
    opened.emulate(1200)
    opened.open(written)
    return opened


def visible(shown: Page) -> int:
    found: int = shown.run(
        "[...document.querySelectorAll('.prompt')].filter((e) => e.checkVisibility()).length"
    )
    return found


in_a_browser = pytest.mark.needs(chromium.PROGRAM)


@in_a_browser
def test_the_page_asks_for_nothing_and_complains_of_nothing(shown: Page, written: Path) -> None:
    for width, dark in ((1200, True), (375, False)):
        shown.emulate(width, dark=dark)
        shown.open(written)

    assert set(shown.requests) == {written.as_uri()}
    assert shown.complaints == []


@in_a_browser
def test_what_a_model_wrote_is_text(shown: Page) -> None:
    assert shown.run("window.bad") is None
    assert shown.run("document.images.length") == 0
    assert shown.run("document.querySelectorAll('.prompt')[3].textContent").count(BAD) == 1


@in_a_browser
@pytest.mark.parametrize(
    ("choice", "left"),
    [
        ("[value=failed]", 10),
        ("[value=fixed]", 30),
        ("[value=broken]", 2),
        ('[name=kind][value=""]', 40),
    ],
)
def test_prompts_are_filtered_by_what_became_of_them(shown: Page, choice: str, left: int) -> None:
    assert visible(shown) == 40

    shown.run(f"document.querySelector('form.filter {choice}').click()")

    assert visible(shown) == left
    assert shown.run("document.querySelector('form.filter output').textContent") == (
        f"{left} of 40 shown"
    )


@in_a_browser
@pytest.mark.parametrize(
    ("field", "value", "left"),
    [("tool", "mail", 20), ("group", "unseen_tool", 8), ("words", "QUESTION 3", 11)],
)
def test_prompts_are_filtered_by_tool_group_and_words(
    shown: Page, field: str, value: str, left: int
) -> None:
    shown.run(
        f"const field = document.querySelector('form.filter').elements.{field};"
        f"field.value = {json.dumps(value)};"
        "field.dispatchEvent(new Event('input', {bubbles: true}))"
    )

    assert visible(shown) == left


@in_a_browser
def test_the_filter_and_the_cursor_are_worked_by_keys_alone(shown: Page) -> None:
    shown.run("document.querySelector('input[name=kind]').focus()")
    shown.press("ArrowRight")
    assert shown.run("document.activeElement.value") == "failed"
    assert visible(shown) == 10

    shown.run("document.querySelector('#at').focus()")
    before = shown.run("document.querySelector('p.cursor output').textContent")
    shown.press("ArrowLeft")
    after = shown.run("document.querySelector('p.cursor output').textContent")
    assert before != after
    assert "loss" in after
    assert "learning rate" in after
    assert "tokens a second" in after


@in_a_browser
def test_the_first_key_leads_past_the_head(shown: Page) -> None:
    shown.press("Tab")
    shown.press("Enter")

    assert shown.run("location.hash") == "#main"


@in_a_browser
def test_differences_are_marked_on_both_sides(shown: Page) -> None:
    marks = "[...document.querySelectorAll('.prompt')[0].querySelectorAll('mark')]"

    assert shown.run(f"{marks}.map((e) => e.textContent)") == ["mail", "search"]


@in_a_browser
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (375, False)])
def test_axe_finds_nothing(shown: Page, width: int, dark: bool) -> None:
    shown.emulate(width, dark=dark)
    shown.run("document.querySelectorAll('details').forEach((e) => { e.open = true; })")

    assert axe(shown) == []


@in_a_browser
def test_axe_finds_nothing_on_the_page_of_a_build_that_has_not_begun(
    recipe: Recipe, browser: Browser
) -> None:
    opened = browser.page()
    opened.open(page.write(report.told_of(recipe), recipe))

    assert axe(opened) == []


@in_a_browser
def test_a_phone_need_not_scroll_sideways(shown: Page) -> None:
    shown.emulate(375)
    shown.run("document.querySelectorAll('details').forEach((e) => { e.open = true; })")

    assert shown.run("document.documentElement.scrollWidth") == 375
    assert shown.run("document.querySelector('.pipeline.down').checkVisibility()")


@in_a_browser
def test_paper_has_the_picture_and_no_buttons(shown: Page) -> None:
    shown.emulate(700, media="print")

    assert shown.run("document.querySelector('.pipeline.across').checkVisibility()")
    assert not shown.run("document.querySelector('form.filter').checkVisibility()")
    assert not shown.run("document.querySelector('nav').checkVisibility()")


@in_a_browser
def test_the_index_leads_to_the_pages(
    project: Project, recipe: Recipe, written: Path, browser: Browser
) -> None:
    other = project.recipe("other", "base: {path: nowhere}\n")
    opened = browser.page()
    opened.emulate(375)

    opened.open(index.write(report.told_of, [recipe, other]))

    assert opened.run("[...document.links].slice(1).map((e) => e.href)") == [written.as_uri()]
    assert "5.0% → 75.0%" in opened.run("document.body.innerText")
    assert opened.run("document.documentElement.scrollWidth") == 375
    assert axe(opened) == []
    assert opened.complaints == []


def axe(shown: Page) -> list[str]:
    """Return what axe-core finds, each as rule, how grave, and where."""
    script = importlib.resources.files("axe_playwright_python") / "axe.min.js"
    shown.run(f"{script.read_text(encoding='utf-8')}; 0")
    found = shown.run("axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{each['id']} ({each['impact']}): {each['nodes'][0]['html']}"
        for each in found["violations"]
    ]


def test_the_page_of_100_000_log_lines_is_quick_and_small(project: Project, recipe: Recipe) -> None:
    built(project, recipe, lines=100_000)
    started = time.process_time()

    path = page.write(report.told_of(recipe), recipe)

    assert time.process_time() - started < 2
    assert path.stat().st_size < 3_000_000


def test_the_page_tells_of_no_folder_of_this_machine(written: Path, project: Project) -> None:
    text = written.read_text(encoding="utf-8")

    assert "python launch.py build/m/train" in text
    for place in (paths.ROOT, project.build, "/opt/xtuner"):
        assert str(place) not in text


def test_a_build_that_is_not_whole_is_told_of(project: Project, recipe: Recipe) -> None:
    built(project, recipe, "base", "data")
    (project.recipes / "m" / "data" / "file.json").write_text("[]")

    text = page.write(report.told_of(recipe), recipe).read_text(encoding="utf-8")

    assert text.count('<span aria-hidden="true">✓</span> current') == 1
    assert text.count('<span aria-hidden="true">!</span> stale') == 1
    assert '<span aria-hidden="true">–</span> not built' in text
    assert "Before and after" not in text


def test_what_training_held_is_counted_in_device_hours(project: Project, recipe: Recipe) -> None:
    text = RECIPE.replace("lr: 2e-4}", "lr: 2e-4, launch: {processes: 4, nodes: 2}}")
    built(project, project.recipe("m", text))

    told = page.write(report.told_of(recipe), project.recipe("m", text)).read_text("utf-8")

    assert "Training held 8 devices for 1:15, 0.17 device hours." in told


def test_what_came_from_a_store_is_not_taken_for_cheap(project: Project, recipe: Recipe) -> None:
    built(project, recipe)
    place = project.build / "ledger.jsonl"
    place.write_text(place.read_text().replace('"built"', '"restored"', 3))

    text = page.write(report.told_of(recipe), recipe).read_text(encoding="utf-8")

    assert "Of its stages, 3 came from a store" in text


def test_answers_that_did_not_pass_the_gate_are_told(project: Project, recipe: Recipe) -> None:
    built(project, recipe, "base", "data")
    paths.log("m", "evaluate").with_suffix(".json").write_bytes(answers())

    text = page.write(report.told_of(recipe), recipe).read_text(encoding="utf-8")

    assert "The gate was not met: this evaluation left no result." in text
    built(project, recipe, *list(report.told_of(recipe))[2:])
    text = page.write(report.told_of(recipe), recipe).read_text(encoding="utf-8")
    assert "Before and after" in text
    assert "The gate was not met" not in text


def test_a_build_that_has_not_begun_is_told_of(recipe: Recipe) -> None:
    text = page.write(report.told_of(recipe), recipe).read_text(encoding="utf-8")

    assert "Nothing was built here yet." in text


def test_the_page_is_current_until_something_on_it_changes(
    project: Project, recipe: Recipe
) -> None:
    def current() -> bool:
        return not report.drifted(recipe)

    built(project, recipe)
    assert not current()
    report.write(recipe)
    assert current()
    ledger.note("other", "base", key="x", seconds=1.0, bytes=1, how="built")
    ledger.note("m", "report", key="x", seconds=1.0, bytes=1, how="built")
    assert current()

    ledger.note("m", "base", key="x", seconds=1.0, bytes=1, how="built")
    assert not current()
    report.write(recipe)
    assert current()
    with paths.log("m", "train").with_suffix(".jsonl").open("a") as log:
        log.write(line(401, 401))
    assert not current()
    report.write(recipe)
    (paths.output("m", "report") / page.NAME).unlink()
    assert not current()


def test_nothing_is_made_from_the_report(recipe: Recipe) -> None:
    for module in report.told_of(recipe).values():
        assert paths.manifest("m", "report") not in module.task(recipe).get("file_dep", ())


def test_the_manifest_has_nothing_of_what_only_this_machine_knows(
    project: Project, recipe: Recipe
) -> None:
    built(project, recipe)
    assert stage.act("report", report, recipe) is None
    before = paths.manifest("m", "report").read_bytes()
    ledger.note("m", "base", key="x", seconds=1.0, bytes=1, how="built")
    stage.clean("report", recipe)

    assert stage.act("report", report, recipe) is None

    assert paths.manifest("m", "report").read_bytes() == before
    receipt = manifest.read(paths.manifest("m", "report"))
    assert receipt is not None
    assert [file.path for file in receipt.files] == ["build.json"]
    told = json.loads((paths.output("m", "report") / "build.json").read_bytes())
    assert told["stages"]["merge"]["facts"]["parameters"] == 1_262_976


def test_doit_report_tells_of_what_there_is_and_builds_nothing(project: Project) -> None:
    folder = project.recipes / "m" / "base"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for name in ("m", "n"):
        project.recipe(name, "base: {path: base}\nimage: {base: scratch, repository: a/b}\n")
    project.result("m", "base", {"config.json": b"{}"})

    done = doit("report", build=project.build, recipes=project.recipes)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        str(project.build / "m" / "report" / "index.html"),
        str(project.build / "index.html"),
    ]
    assert not (project.build / "m" / "image").exists()
    assert not (project.build / "n").exists()
    wrong = doit("report", "k", build=project.build, recipes=project.recipes)
    assert wrong.returncode == 3
    assert "no model 'k'" in wrong.stderr


def test_a_page_that_was_taken_away_is_written_by_the_next_build(project: Project) -> None:
    folder = project.recipes / "m" / "base"
    folder.mkdir(parents=True)
    project.recipe("m", f"base: {{path: {paths.ROOT}/recipes/tiny-agent/base}}\n")
    first = doit("report:m", build=project.build, recipes=project.recipes)
    assert first.returncode == 0, first.stderr
    path = project.build / "m" / "report" / "index.html"
    path.unlink()

    planned = doit("plan", "report:m", build=project.build, recipes=project.recipes)
    doit("m", build=project.build, recipes=project.recipes)

    assert "report:m  run" in planned.stdout
    assert path.is_file()
    planned = doit("plan", "report:m", build=project.build, recipes=project.recipes)
    assert planned.returncode == 0, planned.stdout
