"""FastGPT's config.json with the model's entry."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tasks import app
from tasks.core import settings
from tasks.core.errors import UserError
from tests.conftest import Project

RECIPE = """
base: {hub: meta-llama/Meta-Llama-3-8B-Instruct}
app:
  fastgpt:
    model: llama-3-instruct
    name: llama-3-instruct
    maxContext: 8000
    maxResponse: 8000
    quoteMaxToken: 8000
    maxTemperature: 1.2
"""
# As the document has it, but for the comma after it.
ENTRY = """{
  "model": "llama-3-instruct",
  "name": "llama-3-instruct",
  "maxContext": 8000,
  "maxResponse": 8000,
  "quoteMaxToken": 8000,
  "maxTemperature": 1.2,
  "charsPointsPrice": 0,
  "censor": false,
  "vision": false,
  "datasetProcess": false,
  "usedInClassify": true,
  "usedInExtractFields": true,
  "usedInToolCall": true,
  "usedInQueryExtension": true,
  "toolChoice": false,
  "functionCall": false,
  "customCQPrompt": "",
  "customExtractPrompt": "",
  "defaultSystemChatPrompt": "",
  "defaultConfig": {}
}"""
# In the manner of FastGPT's documentation, with what a user may have done to it.
FASTGPT = """\ufeff// 4.8.14
{
    "feConfigs": {
        "lafEnv": "https://laf.dev" // not // a comment
    },
    'systemEnv': { vectorMaxProcess: 15, qaMaxProcess: 15, },
    "llmModels": [
        {
            "model": "gpt-4o-mini", // the channel's model
            "name": "gpt-4o-mini",
            "maxContext": 125000,
        }, // the first
        /* { "model": "llama-3-instruct" }, */
    ],
    "vectorModels": [{"model": "m3e", "defaultToken": 700}],
}
"""


def indented(text: str, blanks: str, step: str = "  ") -> str:
    """Return lines with another step of indentation, all but the first further in."""
    return text.replace("  ", step).replace("\n", f"\n{blanks}")


@pytest.fixture
def fastgpt(tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the place of FastGPT's own file."""
    folder = tmp_path / "fastgpt"
    folder.mkdir()
    monkeypatch.setenv("MODELWRIGHT_FASTGPT_DIR", str(folder))
    settings.current.cache_clear()
    return folder / "config.json"


def made(project: Project, text: str = RECIPE) -> str:
    """Return the file that a recipe gives."""
    folder = project.build / "out"
    folder.mkdir(parents=True, exist_ok=True)
    app.run(project.recipe("m", text), folder)
    return (folder / "config.json").read_bytes().decode()


def test_only_a_recipe_that_asks_gets_an_entry(project: Project) -> None:
    assert app.wanted(project.recipe("m", RECIPE))
    assert not app.wanted(project.recipe("n", "base: {hub: gpt2}"))


def test_a_new_file_holds_the_document_s_entry_to_the_letter(project: Project) -> None:
    assert made(project) == '{\n  "llmModels": [\n    ' + indented(ENTRY, "    ") + "\n  ]\n}\n"


def test_the_model_is_called_as_the_recipe_unless_named(project: Project) -> None:
    recipe = project.recipe("tiny", "base: {hub: gpt2}\napp: {fastgpt: {}}\n")
    assert (app.entry(recipe)["model"], app.entry(recipe)["name"]) == ("tiny", "tiny")
    assert list(app.entry(recipe)) == list(json.loads(ENTRY))


def test_whole_numbers_are_written_without_a_point(project: Project) -> None:
    text = "base: {hub: gpt2}\napp: {fastgpt: {maxTemperature: 1.0, charsPointsPrice: 0}}\n"
    assert '"maxTemperature": 1,' in made(project, text)
    assert '"charsPointsPrice": 0,' in made(project, text)


def test_an_entry_is_put_last_and_all_else_stays(project: Project, fastgpt: Path) -> None:
    fastgpt.write_text(FASTGPT, encoding="utf-8")
    mark = '/* { "model": "llama-3-instruct" }, */'
    entry = indented(ENTRY, "        ", "    ")
    assert made(project) == FASTGPT.replace(mark, f"{mark}\n        {entry}")


def test_the_model_s_old_entry_is_replaced_in_its_place(project: Project, fastgpt: Path) -> None:
    before = FASTGPT.replace('"model": "gpt-4o-mini"', "'model': 'llama-3-instruct'")
    fastgpt.write_text(before, encoding="utf-8")
    start, end = before.index("{\n            'model'"), before.index(", // the first")
    entry = indented(ENTRY, "        ", "    ")
    assert made(project) == before[:start] + entry + before[end:]


def test_a_file_that_has_the_entry_stays_as_it_is(project: Project, fastgpt: Path) -> None:
    fastgpt.write_text(FASTGPT, encoding="utf-8")
    once = made(project).replace('"maxContext": 8000,', '"maxContext" : 8000, // ours')
    fastgpt.write_text(once, encoding="utf-8")
    assert made(project) == once


def test_an_entry_that_only_seems_equal_is_replaced(project: Project, fastgpt: Path) -> None:
    fastgpt.write_text(made(project).replace('"censor": false', '"censor": 0'), encoding="utf-8")
    assert '"censor": false' in made(project)


def test_line_ends_stay(project: Project, fastgpt: Path) -> None:
    fastgpt.write_bytes(FASTGPT.replace("\n", "\r\n").encode())
    text = made(project)
    assert text.count("\n") == text.count("\r\n") > FASTGPT.count("\n")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("{}", '{"llmModels": ['),
        (
            '{\n  "systemEnv": {}, // kept\n}\n',
            '{\n  "systemEnv": {}, // kept\n  "llmModels": [\n    {\n      "model"',
        ),
        ('{\n  "llmModels": []\n}\n', '{\n  "llmModels": [\n    {\n      "model"'),
    ],
)
def test_a_file_without_chat_models_gets_the_list(
    project: Project, fastgpt: Path, before: str, after: str
) -> None:
    fastgpt.write_text(before, encoding="utf-8")
    assert made(project).startswith(after)


def test_fastgpt_s_own_file_is_never_written(project: Project, fastgpt: Path) -> None:
    fastgpt.write_text(FASTGPT, encoding="utf-8")
    made(project)
    assert fastgpt.read_text(encoding="utf-8") == FASTGPT
    assert [path.name for path in fastgpt.parent.iterdir()] == ["config.json"]


def test_a_file_that_others_may_not_read_stays_so(project: Project, fastgpt: Path) -> None:
    fastgpt.write_text(FASTGPT, encoding="utf-8")
    fastgpt.chmod(0o600)
    made(project)
    assert stat.S_IMODE((project.build / "out" / "config.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{\n  "ChatModels": []\n}', r"config\.json:2: ChatModels: .*4\.6\.7; update FastGPT"),
        (b'{"chatModels": []}', r"config\.json:1: chatModels: .*update FastGPT"),
        (b'{\n\n"llmModels": {}}', r"config\.json:3: llmModels: should be a list"),
        (b'{"llmModels": null}', "llmModels: should be a list"),
        (b'{\n  "llmModels": [\n    {]\n}', r"config\.json:3:6: expected a key, found \]; mend it"),
        (b"", r"config\.json:1:1: .*end of the file; mend it, or move it away"),
        (b"[]", r"config\.json:1: should be an object"),
        (b'{"a": "\xff"}', r"config\.json: byte 7: not UTF-8"),
        (
            b'{"llmModels": [{"model": "llama-3-instruct"},\n\n{"model": "llama-3-instruct"}]}',
            r"config\.json: llmModels: 'llama-3-instruct' is there in lines 1 and 3; keep one",
        ),
    ],
)
def test_a_file_that_cannot_take_the_entry_is_refused(
    project: Project, fastgpt: Path, content: bytes, message: str
) -> None:
    fastgpt.write_bytes(content)
    with pytest.raises(UserError, match=message):
        made(project)
    assert not (project.build / "out" / "config.json").exists()


def test_a_file_that_was_brought_up_to_date_is_taken(project: Project, fastgpt: Path) -> None:
    fastgpt.write_text('{"ChatModels": [], "llmModels": []}', encoding="utf-8")
    assert len(json.loads(made(project))["llmModels"]) == 1


def test_a_folder_in_the_settings_that_is_none_is_refused(project: Project, fastgpt: Path) -> None:
    fastgpt.parent.rmdir()
    with pytest.raises(UserError, match=r"^MODELWRIGHT_FASTGPT_DIR: no folder .*fastgpt; correct"):
        made(project)


def test_the_folder_that_docker_makes_for_a_missing_file_is_named(
    project: Project, fastgpt: Path
) -> None:
    fastgpt.mkdir()
    with pytest.raises(UserError, match=r"config\.json: a folder, not FastGPT's file; remove it"):
        made(project)


def test_a_file_that_may_not_be_read_is_named(
    project: Project, fastgpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fastgpt.write_text(FASTGPT, encoding="utf-8")
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"config\.json: you may not read it; run as its owner"):
        app.key(project.recipe("m", RECIPE))


def test_without_a_file_in_the_folder_a_new_one_is_made(project: Project, fastgpt: Path) -> None:
    assert json.loads(made(project)) == {"llmModels": [json.loads(ENTRY)]}


@pytest.mark.parametrize("there", [False, True])
def test_the_facts_say_where_the_entry_went(
    project: Project, fastgpt: Path, tmp_path: Path, there: bool
) -> None:
    if there:
        fastgpt.write_text(FASTGPT, encoding="utf-8")
    facts = app.run(project.recipe("m", RECIPE), tmp_path)
    into = "config.json" if there else "new file"
    assert facts == {"model": "llama-3-instruct", "merged_into": into}


def test_every_value_that_the_model_cannot_keep_is_named(project: Project) -> None:
    folder = project.recipes / "m" / "base"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"max_position_embeddings": 2048}', encoding="utf-8")
    text = "base: {path: base}\napp: {fastgpt: {maxContext: 4096, maxResponse: 8000, "
    text += "quoteMaxToken: 8000, "
    text += "defaultConfig: {x: .inf}}}\n"
    with pytest.raises(UserError) as caught:
        made(project, text)
    at = f"{project.recipes / 'm.yaml'}: app.fastgpt"
    base = "the 2048 tokens that base was made for"
    assert str(caught.value).splitlines() == [
        f"{at}.maxResponse: 8000 is more than maxContext; give it 4096 or less",
        f"{at}.quoteMaxToken: 8000 is more than maxContext; give it 4096 or less",
        f"{at}.maxContext: 4096 is more than {base}; give it 2048 or less",
        f"{at}: JSON has no .inf and no .nan; give a number",
    ]


def test_values_at_their_limits_are_fine(project: Project) -> None:
    recipe = project.recipe("m", RECIPE)
    assert app.faults(recipe, 8000) == []
    assert len(app.faults(recipe, 7999)) == 1


def test_another_file_or_entry_wakes_the_stage_and_nothing_else(
    project: Project, fastgpt: Path
) -> None:
    fresh = app.key(project.recipe("m", RECIPE))
    assert app.key(project.recipe("m", RECIPE + "evaluate: {prompts: p.jsonl}\n")) == fresh
    assert app.key(project.recipe("m", RECIPE.replace("1.2", "1.0"))) != fresh
    fastgpt.write_text(FASTGPT, encoding="utf-8")
    assert app.key(project.recipe("m", RECIPE)) != fresh


def test_the_key_knows_no_folder_of_this_machine(project: Project, fastgpt: Path) -> None:
    fastgpt.write_text(FASTGPT, encoding="utf-8")
    assert str(fastgpt.parent) not in json.dumps(app.key(project.recipe("m", RECIPE)))
