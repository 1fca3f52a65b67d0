"""FastGPT with the model's entry: in its file, in its database, and out of both again."""

from __future__ import annotations

import copy
import gzip
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import STAGES, app, base
from tasks.core import paths, pins, settings
from tasks.core.commands import missing
from tasks.core.engine import inputs, manifest
from tasks.core.errors import UserError
from tasks.core.fastgpt import (
    client,
    composefile,
    configfile,
    configtext,
    entry,
    passwords,
    records,
    stack,
)
from tasks.core.recipe import Recipe
from tasks.core.sources import lockfile
from tests.conftest import Project
from tests.services import fastgpt, images
from tests.services.docker import Engine
from tests.services.fastgpt import FastGPT
from tests.services.registry import Registry

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
    toolChoice: false
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
MODEL = "llama-3-instruct"
# In the manner of FastGPT's documentation, with what a user may have done to it.
CONFIG = """\
// 4.8.14
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
COMPOSE = "services:\n  web:\n    image: ghcr.io/labring/fastgpt:v{}\n"
SECRETS = (fastgpt.PASSWORD, fastgpt.ROOT_KEY, fastgpt.KEY)
# A Docker client: it tells what it was asked, and restarts the FastGPT of the test.
DOCKER = """\
#!{python} -IS
import sys
words = sys.argv[1:]
with open({log!r}, "a") as file:
    file.write(" ".join(words) + "\\n")
if words[0] == "ps":
    print("abc")
elif words[0] == "inspect":
    print('[{{"Name": "/web-1", "Mounts": [{{"Type": "bind", "Source": "{mounted}"}}]}}]')
elif words[0] == "restart" or words[-2:] == ["up", "--detach"]:
    import socket
    with socket.create_connection(("127.0.0.1", {port})) as there:
        there.sendall(b"POST /__restart HTTP/1.0\\r\\n\\r\\n")
        there.recv(100)
"""


@pytest.fixture
def folder(tmp_path: Path, project: Project, monkeypatch: pytest.MonkeyPatch) -> Path:
    """FastGPT's folder."""
    made = tmp_path / "fastgpt"
    made.mkdir()
    use(monkeypatch, dir=str(made))
    return made


class Site:
    """A FastGPT that runs from a folder, and the Docker client that restarts it."""

    def __init__(self, folder: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch
        self.config = folder / "config.json"
        self.server = FastGPT(version, self.config)
        self.log = folder / "docker.log"

    def docker(self, mounted: Path | None = None) -> None:
        """Put a Docker client on the path."""
        bin_folder = self.folder.parent / "bin"
        bin_folder.mkdir(exist_ok=True)
        port, python = self.server.url.rpartition(":")[2], sys.executable
        mounts = mounted or self.config
        text = DOCKER.format(python=python, log=str(self.log), port=port, mounted=mounts)
        (bin_folder / "docker").write_text(text)
        (bin_folder / "docker").chmod(0o755)
        self.monkeypatch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")

    def called(self, word: str) -> list[str]:
        """Return what Docker was told that has a word in it."""
        return [line for line in self.log.read_text().splitlines() if word in line.split()]


@pytest.fixture
def site(
    request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    """A FastGPT of some release that runs with its own config.json; 4.8.14 if none is named."""
    version = getattr(request, "param", "4.8.14")
    made = Site(folder, version, monkeypatch)
    made.config.write_text(CONFIG, encoding="utf-8")
    (folder / "docker-compose.yml").write_text(COMPOSE.format(version))
    with made.server.running():
        made.server.restart()
        use(monkeypatch, endpoint=made.server.url)
        if made.server.in_database:
            use(monkeypatch, password=fastgpt.PASSWORD)
        made.docker()
        yield made


def releases(*versions: str) -> pytest.MarkDecorator:
    """Have a test run with some releases of FastGPT."""
    return pytest.mark.parametrize("site", versions, indirect=True)


databases = releases("4.8.23", "4.15.1", "4.17.2")


def use(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Set settings of FastGPT."""
    for name, value in values.items():
        monkeypatch.setenv(f"MODELWRIGHT_FASTGPT_{name.upper()}", value)
    settings.current.cache_clear()


def made(project: Project, text: str = RECIPE, name: str = "m") -> Recipe:
    return project.make("app", project.recipe(name, text))


def unship(recipe: Recipe) -> list[str]:
    return app.undo(recipe, manifest.read(paths.manifest(recipe.name, "app")))


def indented(text: str, blanks: str, step: str = "  ") -> str:
    """Return lines with another step of indentation, all but the first further in."""
    return text.replace("  ", step).replace("\n", f"\n{blanks}")


def merged() -> str:
    """Return the file with the entry in it."""
    mark = '/* { "model": "llama-3-instruct" }, */'
    return CONFIG.replace(mark, f"{mark}\n        {indented(ENTRY, '        ', '    ')},")


# The entry.


def test_only_a_recipe_that_asks_gets_an_entry(project: Project) -> None:
    assert app.wanted(project.recipe("m", RECIPE))
    assert not app.wanted(project.recipe("n", "base: {hub: gpt2}"))


def test_the_files_hold_the_document_s_entry_to_the_letter(project: Project) -> None:
    place = paths.output("m", "app")
    made(project)
    expected = '{\n  "llmModels": [\n    ' + indented(ENTRY, "    ") + "\n  ]\n}\n"
    assert (place / "config.json").read_text() == expected
    facts = manifest.read(paths.manifest("m", "app"))
    assert facts
    assert facts.facts == {"model": MODEL, "kept_in": "these files alone"}


def test_the_model_is_called_as_the_recipe_unless_named(project: Project) -> None:
    recipe = project.recipe("tiny", "base: {hub: gpt2}\napp: {fastgpt: {}}\n")
    found = app.values(recipe)
    assert (found["model"], found["name"]) == ("tiny", "tiny")
    assert list(found) == list(json.loads(ENTRY))


@pytest.mark.parametrize(
    ("parts", "model"),
    [
        ("serve: {name: served}\n", "served"),
        ("serve: {name: served}\ngateway: {model: shown}\n", "shown"),
        ("gateway: {}\n", "m"),
    ],
)
def test_the_model_is_called_as_the_gateway_calls_it(
    project: Project, parts: str, model: str
) -> None:
    text = f"base: {{hub: gpt2}}\napp: {{fastgpt: {{}}}}\n{parts}"
    assert app.values(project.recipe("m", text))["model"] == model


def with_base(project: Project, config: dict[str, Any], text: str = "") -> Recipe:
    """Return a recipe whose base has a config.json."""
    folder = project.recipes / "m" / "base"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return project.recipe("m", "base: {path: base}\napp: {fastgpt: {}}\n" + text)


@pytest.mark.parametrize(
    ("config", "text", "context"),
    [
        ({"max_position_embeddings": 2048}, "", 2048),
        ({"max_position_embeddings": 2048}, "serve: {context_length: 1024}\n", 1024),
        ({}, "", 8000),
    ],
)
def test_the_context_is_the_model_s_unless_said(
    project: Project, config: dict[str, Any], text: str, context: int
) -> None:
    found = app.values(with_base(project, config, text))
    assert found["maxContext"] == found["maxResponse"] == found["quoteMaxToken"] == context


def test_an_app_is_told_no_more_tokens_than_serve_would_take(project: Project) -> None:
    with_base(project, {"max_position_embeddings": 2048})
    text = "base: {path: base}\nserve: {context_length: 4096}\napp: {fastgpt: {}}\n"
    with pytest.raises(UserError, match="context_length: 4096 is more than the 2048 tokens"):
        made(project, text)


@pytest.mark.parametrize(
    ("architecture", "sees"),
    [("LlamaForCausalLM", False), ("LlavaForConditionalGeneration", True), ("Unheard", False)],
)
def test_vision_is_the_architecture_s(project: Project, architecture: str, sees: bool) -> None:
    assert app.values(with_base(project, {"architectures": [architecture]}))["vision"] is sees


def test_tools_are_chosen_where_the_served_model_was_seen_to_call_them(project: Project) -> None:
    recipe = with_base(project, {}, "serve: {}\n")
    assert app.values(recipe)["toolChoice"] is False
    project.result("m", "serve", {"answers.json": b"{}"}, {"tools": True})
    assert app.values(recipe)["toolChoice"] is True


def test_whole_numbers_are_written_without_a_point(project: Project) -> None:
    text = "base: {hub: gpt2}\napp: {fastgpt: {maxTemperature: 1.0}}\n"
    assert '"maxTemperature": 1,' in configtext.alone(app.values(project.recipe("m", text)))


def test_every_value_that_the_model_cannot_keep_is_named(project: Project) -> None:
    with_base(project, {"max_position_embeddings": 2048})
    text = "base: {path: base}\napp: {fastgpt: {maxContext: 4096, maxResponse: 8000, "
    text += "quoteMaxToken: 8000, defaultConfig: {x: .inf}}}\n"
    with pytest.raises(UserError) as caught:
        made(project, text)
    at = f"{project.recipes / 'm.yaml'}: app.fastgpt"
    assert str(caught.value).splitlines() == [
        f"{at}.maxResponse: 8000 is more than maxContext; give it 4096 or less",
        f"{at}.quoteMaxToken: 8000 is more than maxContext; give it 4096 or less",
        f"{at}.maxContext: 4096 is more than the 2048 tokens that base takes; give it 2048 or less",
        f"{at}: JSON has no .inf and no .nan; give a number",
    ]


def told(recipe: Recipe) -> list[str]:
    """Return what is told before anything runs, without where and what to do."""
    faults = "\n".join(missing.faults([("app", STAGES["app"], recipe)])).splitlines()
    return [line.partition("app.fastgpt.")[2].partition(";")[0] for line in faults]


def fetched(project: Project) -> Path:
    """Publish the base of another recipe, which takes 2048 tokens."""
    text = json.dumps({"max_position_embeddings": 2048})
    return project.result("m", "base", {"config.json": text.encode()})


TOO_MUCH = "maxContext: 4096 is more than the 2048 tokens that {} takes"


def test_what_the_model_cannot_keep_is_told_before_anything_runs(project: Project) -> None:
    with_base(project, {"max_position_embeddings": 2048})
    text = "base: {path: base}\nserve: {}\napp: {fastgpt: {maxContext: 4096}}\n"
    assert told(project.recipe("m", text)) == [TOO_MUCH.format("base")]


def from_afar(project: Project, entry: str, served: str = "") -> Recipe:
    """Return a recipe whose base has to be fetched."""
    text = f"base: {{http: https://host/m.zip, digest: sha256:{64 * 'a'}}}\n{served}"
    return project.recipe("m", f"{text}app: {{fastgpt: {{{entry}}}}}\n")


def test_a_base_that_was_fetched_is_held_against_at_once(project: Project) -> None:
    recipe = from_afar(project, "maxContext: 4096")
    place, given = fetched(project), inputs.gather(base, recipe)
    receipt = manifest.read(place / manifest.NAME)
    assert receipt
    manifest.write(replace(receipt, inputs=given, key=manifest.key_of("base", given)), place)
    assert told(recipe) == [TOO_MUCH.format("https://host/m.zip")]


def test_the_base_of_before_says_nothing_of_the_next_one(project: Project) -> None:
    """It would keep the next one from ever being fetched."""
    recipe = from_afar(project, "maxContext: 4096")
    fetched(project)
    assert told(recipe) == []


@pytest.mark.parametrize(
    ("entry", "served", "faults"),
    [
        ("", "", []),
        ("maxResponse: 9000", "", []),  # the model may take more than the document's 8000
        ("maxResponse: 9000", "serve: {context_length: 8000}\n", []),
        ("maxContext: 9000", "", []),
        (
            "maxContext: 8000, maxResponse: 9000",
            "",
            ["maxResponse: 9000 is more than maxContext"],
        ),
        (
            "maxContext: 4096",
            "serve: {context_length: 2048}\n",
            [TOO_MUCH.format("https://host/m.zip")],
        ),
    ],
)
def test_of_a_base_that_is_to_be_fetched_only_what_is_sure_is_told(
    project: Project, entry: str, served: str, faults: list[str]
) -> None:
    assert told(from_afar(project, entry, served)) == faults


def test_values_at_their_limits_are_fine(project: Project) -> None:
    recipe = project.recipe("m", RECIPE)
    assert entry.faults(recipe, app.values(recipe), 8000) == []
    assert len(entry.faults(recipe, app.values(recipe), 7999)) == 1


# The file, up to 4.8.19.


def test_an_entry_is_put_last_and_all_else_stays(site: Site, project: Project) -> None:
    made(project)
    assert site.config.read_text() == merged()
    assert (site.folder / "config.json.bak-1").read_text() == CONFIG
    assert site.called("restart") == ["restart web-1"]
    assert [one["model"] for one in site.server.listed] == ["gpt-4o-mini", MODEL]


def test_a_second_time_changes_nothing_and_restarts_nothing(site: Site, project: Project) -> None:
    recipe = made(project)
    assert app.drifted(recipe) == ""
    made(project)
    assert site.called("restart") == ["restart web-1"]
    assert not (site.folder / "config.json.bak-2").exists()


def test_the_model_s_old_entry_is_replaced_in_its_place_and_put_back(
    site: Site, project: Project
) -> None:
    before = CONFIG.replace('"model": "gpt-4o-mini"', "'model': 'llama-3-instruct'")
    site.config.write_text(before, encoding="utf-8")
    recipe = made(project)
    start, end = before.index("{\n            'model'"), before.index(", // the first")
    text = indented(ENTRY, "        ", "    ")
    assert site.config.read_text() == before[:start] + text + before[end:]
    (line,) = unship(recipe)
    assert line == (
        f"entry '{MODEL}' put back as it was in config.json (the file before: config.json.bak-2)"
    )
    found = configfile.entry_in(site.config, MODEL)
    assert found == {"model": MODEL, "name": "gpt-4o-mini", "maxContext": 125000}


def test_a_key_of_the_entry_before_is_nowhere_that_others_may_read(
    site: Site, project: Project
) -> None:
    theirs = "'model': 'llama-3-instruct', 'requestAuth': 'sk-of-somebody'"
    site.config.write_text(CONFIG.replace('"model": "gpt-4o-mini"', theirs), encoding="utf-8")
    recipe = made(project)
    holding = [
        path
        for path in project.build.rglob("*")
        if path.is_file() and b"sk-of-somebody" in path.read_bytes()
    ]
    assert holding == [paths.note("m", "app")]
    unship(recipe)
    assert "sk-of-somebody" in site.config.read_text()


def test_unship_leaves_the_file_as_it_was(site: Site, project: Project) -> None:
    recipe = made(project)
    assert unship(recipe) == [
        f"entry '{MODEL}' taken out of config.json (the file before: config.json.bak-2)"
    ]
    assert site.config.read_text() == CONFIG
    assert [one["model"] for one in site.server.listed] == ["gpt-4o-mini"]
    assert unship(recipe) == []


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"llmModels": []}',
        '{\n  "llmModels": []\n}\n',
        '{\n  "systemEnv": {}, // kept\n}\n',
        '{\n  "systemEnv": {}\n}\n',
        '{"llmModels": [{"model": "a"}, {"model": "b"}], "x": 1}',
        '{\n\t"llmModels": [\n\t\t{"model": "a"} // last\n\t]\n}\n',
        CONFIG.replace("\n", "\r\n"),
    ],
)
def test_what_was_put_in_comes_out_and_leaves_no_trace(text: str) -> None:
    path = Path("config.json")
    new = configtext.merge(text, json.loads(ENTRY), path)
    assert MODEL in new
    with_list = "llmModels" not in text
    assert configtext.without(new, MODEL, path, with_list=with_list) == text


@releases("4.8.14", "4.15.1")
def test_a_model_that_is_called_otherwise_now_leaves_none_behind(
    site: Site, project: Project
) -> None:
    made(project)
    site.server.reachable.add("other")
    recipe = made(project, RECIPE.replace("model: llama-3-instruct", "model: other"))
    models = site.server.database if site.server.in_database else site.server.listed
    assert [one["model"] for one in models if one["model"] != "gpt-4o-mini"] == ["other"]
    unship(recipe)
    assert site.config.read_text() == CONFIG
    assert not site.server.database


def test_an_entry_between_others_is_taken_out_alone(site: Site, project: Project) -> None:
    recipe = made(project)
    text = site.config.read_text().replace(
        '    ],\n    "vector', '        { "model": "later" }\n    ],\n    "vector'
    )
    text = text.replace(
        '"defaultConfig": {}\n        }', '"defaultConfig": {}\n        }, // ours?'
    )
    site.config.write_text(text)
    unship(recipe)
    left = site.config.read_text()
    assert configfile.others(site.config, MODEL) == ["gpt-4o-mini", "later"]
    assert "// ours?" in left
    assert "// the first" in left


def test_an_entry_changed_by_hand_is_noticed_and_put_right(site: Site, project: Project) -> None:
    recipe = made(project)
    site.config.write_text(site.config.read_text().replace('"censor": false', '"censor": 0'))
    assert app.drifted(recipe) == f"{site.config} has another entry '{MODEL}'"
    made(project)
    assert site.config.read_text() == merged()
    site.config.write_text(CONFIG)
    assert app.drifted(recipe) == f"{site.config} has no entry '{MODEL}'"


def test_a_fastgpt_that_has_not_read_the_file_is_restarted(site: Site, project: Project) -> None:
    recipe = made(project)
    site.server.listed = []
    assert app.drifted(recipe) == f"FastGPT runs without '{MODEL}'"
    made(project)
    assert len(site.called("restart")) == 2


def test_a_prompt_that_fastgpt_does_not_show_is_no_difference(site: Site, project: Project) -> None:
    recipe = made(project, f"{RECIPE}    defaultSystemChatPrompt: Be brief.\n")
    assert app.drifted(recipe) == ""
    assert site.server.listed[1]["defaultSystemChatPrompt"] == "Be brief."


def test_two_models_at_once_do_not_write_over_each_other(site: Site, project: Project) -> None:
    names = [f"m{number}" for number in range(4)]
    recipes = {name: project.recipe(name, RECIPE.replace(MODEL, name)) for name in names}
    folders = {name: project.build / name for name in names}
    for folder in folders.values():
        folder.mkdir(parents=True)
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: app.run(recipes[name], folders[name]), names))
    assert sorted(configfile.others(site.config, "gpt-4o-mini")) == names
    assert sorted(one["model"] for one in site.server.listed) == ["gpt-4o-mini", *names]


def test_a_stopped_fastgpt_is_started(site: Site, project: Project) -> None:
    recipe = made(project)
    site.server.is_up = False
    assert app.drifted(recipe) == f"FastGPT at {site.server.url} does not answer"
    site.log.write_text("")
    made(project)
    compose = site.folder / "docker-compose.yml"
    assert site.called("up") == [f"compose -f {compose} up --detach"]
    assert not site.called("restart")


def test_a_folder_that_is_empty_gets_everything(
    site: Site, project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    site.config.unlink()
    (site.folder / "docker-compose.yml").unlink()
    site.server.is_up = False
    digest = f"sha256:{64 * '0'}"
    lockfile.update(project.recipe("m", RECIPE), pins.PART, **{"mongo:5.0.18": digest})
    recipe = made(project)
    for place in (site.folder, paths.output("m", "app")):
        assert f"image: mongo:5.0.18@{digest}" in (place / "docker-compose.yml").read_text()
    assert json.loads(site.config.read_text()) == {"llmModels": [json.loads(ENTRY)]}
    env = site.folder / ".env"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    names = [line.partition("=")[0] for line in env.read_text().splitlines()]
    assert names == passwords.needed((site.folder / "docker-compose.yml").read_text())
    told = capsys.readouterr().out
    assert "   5 images by tag alone; `doit update:m` pins" in told
    assert not any(line.partition("=")[2] in told for line in env.read_text().splitlines())
    assert app.drifted(recipe) == ""


def test_passwords_that_are_there_stay(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".env").write_text("PG_PASSWORD=mine")
    monkeypatch.setenv("MONGO_PASSWORD", "from the environment")
    stack.make(folder, composefile.IMAGES)
    lines = (folder / ".env").read_text().splitlines()
    assert lines[0] == "PG_PASSWORD=mine"
    assert not any(line.startswith("MONGO_PASSWORD") for line in lines)
    needed = passwords.needed(composefile.text(composefile.IMAGES))
    assert len(set(lines)) == len(lines) == len(needed) - 1


def test_passwords_go_into_no_file_that_others_may_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env = folder / ".env"
    env.write_text("TZ=UTC\n")
    env.chmod(0o644)
    text = composefile.text(composefile.IMAGES)
    passwords.fill(folder, text)
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert f"{env} gets passwords: only its owner may read it now" in capsys.readouterr().out
    env.chmod(0o644)
    passwords.fill(folder, text)
    assert stat.S_IMODE(env.stat().st_mode) == 0o644
    assert capsys.readouterr().out == ""


def test_a_file_that_others_may_not_read_stays_so(site: Site, project: Project) -> None:
    site.config.chmod(0o600)
    made(project)
    assert stat.S_IMODE(site.config.stat().st_mode) == 0o600
    assert stat.S_IMODE((site.folder / "config.json.bak-1").stat().st_mode) == 0o600


def test_a_link_to_the_file_stays_a_link(site: Site, project: Project) -> None:
    real = site.config.rename(site.folder / "real.json")
    site.config.symlink_to(real)
    made(project)
    assert site.config.is_symlink()
    assert real.read_text() == merged()


def test_without_a_container_to_restart_people_are_told(site: Site, project: Project) -> None:
    site.docker(mounted=site.folder / "another.json")
    with pytest.raises(UserError, match=r"config\.json: has the entry, but no container .*by hand"):
        made(project)
    site.server.restart()
    made(project)


def test_a_fastgpt_that_reads_another_file_is_told(site: Site, project: Project) -> None:
    site.server.config = None
    with pytest.raises(UserError, match=r"still without 'llama-3-instruct'; is .*config\.json the"):
        made(project)


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
def test_a_file_that_cannot_take_the_entry_is_refused_and_stays(
    site: Site, project: Project, content: bytes, message: str
) -> None:
    site.config.write_bytes(content)
    with pytest.raises(UserError, match=message):
        made(project)
    assert site.config.read_bytes() == content
    assert not list(site.folder.glob("*bak*"))
    assert not (paths.output("m", "app")).exists()


def test_a_folder_in_the_settings_that_is_none_is_refused(project: Project, folder: Path) -> None:
    folder.rmdir()
    with pytest.raises(UserError, match=r"^MODELWRIGHT_FASTGPT_DIR: no folder .*fastgpt; correct"):
        made(project)


def test_the_folder_that_docker_makes_for_a_missing_file_is_named(
    site: Site, project: Project
) -> None:
    site.config.unlink()
    site.config.mkdir()
    with pytest.raises(UserError, match=r"config\.json: a folder, not FastGPT's file; remove it"):
        made(project)


def test_a_file_that_may_not_be_read_is_named(
    site: Site, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"config\.json: you may not read it; run as its owner"):
        made(project)


def test_an_entry_that_was_changed_since_stays(site: Site, project: Project) -> None:
    recipe = made(project)
    changed = site.config.read_text().replace('"maxResponse": 8000', '"maxResponse": 1')
    site.config.write_text(changed)
    (line,) = unship(recipe)
    assert line == f"entry '{MODEL}' stays in config.json: it is not as we left it"
    assert site.config.read_text() == changed


def test_an_entry_in_another_folder_is_not_this_one_s(
    site: Site, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, other = made(project), tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(site.config.read_text())
    use(monkeypatch, dir=str(other))
    assert app.drifted(recipe) == f"it is in FastGPT at {site.config}"
    for run in (unship, lambda _: made(project)):
        with pytest.raises(UserError, match=rf"is in FastGPT at {site.config}; set MODELWRIGHT_FA"):
            run(recipe)
    assert (other / "config.json").read_text() == merged()


@releases("4.8.14", "4.8.23", "4.15.1")
@pytest.mark.parametrize("fault", [UserError("no answer"), KeyboardInterrupt()])
def test_a_first_run_that_fails_does_not_lose_what_was_there(
    site: Site, project: Project, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    before = {"model": MODEL, "name": "theirs", "maxContext": 1}
    if site.server.in_database:
        site.server.keep(MODEL, records.metadata(before))
    site.config.write_text(json.dumps({"llmModels": [before]}))

    def fails(*_: Any) -> None:
        raise fault

    recipe = project.recipe("m", RECIPE)
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(app, "_chat", fails)
            with pytest.raises(type(fault)):
                made(project)
    assert not paths.manifest("m", "app").exists()
    assert "put back as it was" in app.undo(recipe, None)[0]
    if site.server.in_database:
        found = site.server.database[0]["metadata"]
        assert {name: found[name] for name in before} == before
    assert configfile.entry_in(site.config, MODEL) == before


# The database, from 4.8.20 on.


def theirs(site: Site, name: str = "gpt-4o", **more: Any) -> dict[str, Any]:
    """Put a model of somebody's into the database; return what it is there."""
    site.server.keep(name, {"type": "llm", "name": "theirs", "isActive": False, **more})
    return copy.deepcopy(site.server.database[0])


def is_as_before(site: Site, before: dict[str, Any]) -> bool:
    """Return whether the first model in the database has all that it had, no matter what else."""
    found = site.server.database[0]["metadata"]
    return bool({**found, **before["metadata"]} == found)


@databases
def test_a_newer_fastgpt_gets_the_model_into_its_database(site: Site, project: Project) -> None:
    before = theirs(site)
    recipe = made(project)
    kept = site.server.database[1]
    assert kept["model"] == MODEL
    assert kept["metadata"]["isActive"] is True
    assert records.differences(kept, records.metadata(json.loads(ENTRY))) == []
    assert site.server.database[0] == before
    assert site.config.read_text() == CONFIG
    assert f"GET {site.server.models_at}test" in site.server.lines("GET")
    assert app.drifted(recipe) == ""


@pytest.mark.parametrize("text", [RECIPE, "base: {hub: gpt2}\napp: {fastgpt: {}}\n"])
def test_every_field_is_one_that_the_sources_define(project: Project, text: str) -> None:
    values = app.values(project.recipe("m", text))
    assert set(values) == set(fastgpt.Entry.model_fields)
    fastgpt.Entry(**values)
    kept = records.metadata(values)
    assert set(kept) == set(fastgpt.Record.model_fields)
    assert {name for name in kept if kept[name] is not None} >= fastgpt.REQUIRED


@releases("4.16.2")
def test_a_release_that_keeps_only_what_its_schema_has_is_content(
    site: Site, project: Project
) -> None:
    recipe = made(project)
    assert "customCQPrompt" not in site.server.database[0]["metadata"]
    assert app.drifted(recipe) == ""
    text = RECIPE + "    customCQPrompt: Split.\n"
    with pytest.raises(UserError, match="took 'llama-3-instruct' and has another customCQPrompt"):
        made(project, text)


@releases("4.17.0", "4.17.3")
def test_the_first_and_the_next_release_with_ids_alone_are_spoken_to_as_they_want(
    site: Site, project: Project
) -> None:
    before = theirs(site)
    made(project)
    site.server.database[1]["metadata"]["maxContext"] = 1
    recipe = made(project)
    assert site.server.database[1]["metadata"]["maxContext"] == 8000
    assert app.drifted(recipe) == ""
    assert unship(recipe) == [f"'{MODEL}' taken out of FastGPT's database"]
    assert site.server.database == [before]


@databases
def test_a_second_time_writes_nothing(site: Site, project: Project) -> None:
    made(project)
    assert [one["model"] for one in site.server.database] == [MODEL]
    site.server.asked.clear()
    made(project)
    assert all("login" in line for line in site.server.lines("POST", "PUT"))


@databases
def test_what_people_changed_there_is_noticed_put_right_and_put_back(
    site: Site, project: Project
) -> None:
    before = theirs(site, MODEL, isActive=True, provider="Meta")
    recipe = made(project)
    assert site.server.database[0]["metadata"]["name"] == MODEL
    site.server.database[0]["metadata"]["maxContext"] = 1
    assert app.drifted(recipe) == f"'{MODEL}' has another maxContext"
    made(project)
    assert unship(recipe) == [f"'{MODEL}' put back as it was in FastGPT's database"]
    assert is_as_before(site, before)


@databases
def test_a_trial_that_fails_does_not_lose_what_was_there(site: Site, project: Project) -> None:
    before = theirs(site, MODEL, isActive=True, provider="Meta")
    site.server.reachable = set()
    for _ in range(2):
        with pytest.raises(UserError, match="model/test: 500"):
            made(project)
    site.server.reachable = {MODEL}
    assert unship(made(project)) == [f"'{MODEL}' put back as it was in FastGPT's database"]
    assert is_as_before(site, before)


@databases
def test_another_fastgpt_s_model_of_the_name_is_not_ours(
    site: Site, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = made(project)
    other = FastGPT(site.server.version, site.config)
    other.keep(MODEL, {"type": "llm", "name": "theirs", "isActive": True})
    before = copy.deepcopy(other.database)
    with other.running():
        use(monkeypatch, endpoint=other.url)
        assert app.drifted(recipe) == f"it is in FastGPT at {site.server.url}"
        for run in (unship, lambda _: made(project)):
            with pytest.raises(
                UserError, match=rf"is in FastGPT at {site.server.url}; set .*\.json"
            ):
                run(recipe)
    assert other.database == before
    use(monkeypatch, endpoint=site.server.url)
    assert unship(recipe) == [f"'{MODEL}' taken out of FastGPT's database"]


@databases
def test_a_model_that_was_changed_since_stays(site: Site, project: Project) -> None:
    recipe = made(project)
    site.server.database[0]["metadata"]["maxContext"] = 1
    assert unship(recipe) == [f"'{MODEL}' stays in FastGPT's database: it is not as we left it"]
    assert len(site.server.database) == 1


@databases
def test_a_change_that_was_refused_leaves_what_was_given_before_to_be_taken_back(
    site: Site, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = made(project)

    def refuses(*_: Any) -> None:
        raise UserError("refused")

    with monkeypatch.context() as patch:
        patch.setattr(client.FastGPT, "put", refuses)
        with pytest.raises(UserError, match="refused"):
            made(project, RECIPE.replace("1.2", "1.0"))
    assert unship(recipe) == [f"'{MODEL}' taken out of FastGPT's database"]


@databases
def test_unship_takes_the_model_out_and_no_other(site: Site, project: Project) -> None:
    before = theirs(site)
    recipe = made(project)
    assert unship(recipe) == [f"'{MODEL}' taken out of FastGPT's database"]
    assert site.server.database == [before]
    assert unship(recipe) == []


@databases
def test_a_model_that_fastgpt_cannot_reach_is_told(site: Site, project: Project) -> None:
    site.server.reachable = set()
    with pytest.raises(UserError, match=r"model/test: 500, .*无可用渠道"):
        made(project)


@releases("4.15.1")
def test_an_import_would_undo_what_people_changed_so_it_is_the_last_resort(
    site: Site, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, password="", root_key=fastgpt.ROOT_KEY)
    with pytest.raises(UserError, match=r"names gpt-4o-mini, too.*set MODELWRIGHT_FASTGPT_PASSWO"):
        made(project)
    assert site.config.read_text() == CONFIG
    site.config.write_text("{}")
    recipe = made(project)
    assert [one["model"] for one in site.server.database] == [MODEL]
    assert app.drifted(recipe) == ""
    with pytest.raises(UserError, match="set MODELWRIGHT_FASTGPT_PASSWORD"):
        unship(recipe)
    use(monkeypatch, password=fastgpt.PASSWORD)
    made(project)
    assert site.config.read_text() == "{}"
    unship(recipe)
    assert site.server.database == []


@releases("4.17.2")
def test_a_release_without_the_import_call_wants_the_password(
    site: Site, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, password="", root_key=fastgpt.ROOT_KEY)
    site.config.write_text("{}")
    with pytest.raises(UserError, match="set MODELWRIGHT_FASTGPT_PASSWORD to the password of its"):
        made(project)
    assert site.config.read_text() == "{}"


@releases("4.15.1")
@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"password": "wrong-of-a-test"},
            "login: 500, account_psw_error; is MODELWRIGHT_FASTGPT_P",
        ),
        (
            {"password": ""},
            "set MODELWRIGHT_FASTGPT_PASSWORD to the password of its user root",
        ),
        ({"password": "", "dir": ""}, "does not tell which release .* set MODELWRIGHT_FASTGPT_PAS"),
        ({"endpoint": "", "dir": "{folder}"}, "in its database; set MODELWRIGHT_FASTGPT_ENDPOINT"),
        ({"endpoint": "http://127.0.0.1:9", "dir": ""}, "no answer .*is it up, and is MODELWRIGHT"),
    ],
)
def test_a_wrong_setting_is_one_clear_error(
    site: Site,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, str],
    told: str,
) -> None:
    monkeypatch.setattr("tasks.core.fastgpt.site.START", 0.0)
    use(monkeypatch, **{k: v.format(folder=site.folder) for k, v in values.items()})
    with pytest.raises(UserError, match=told) as failure:
        made(project)
    assert "wrong-of-a-test" not in str(failure.value)
    assert site.config.read_text() == CONFIG


@releases("4.8.14", "4.15.1")
def test_an_address_that_is_no_fastgpt_s_is_told(
    site: Site, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.core.fastgpt.site.START", 0.0)
    use(monkeypatch, dir="")
    site.server.broken = True
    told = rf"FastGPT at {site.server.url}: .* an answer that is not JSON .*is MODELWRIGHT_FASTGPT"
    with pytest.raises(UserError, match=told):
        made(project)
    assert site.config.read_text() == CONFIG


@releases("4.8.14")
def test_a_fastgpt_brought_up_to_date_is_noticed(
    site: Site, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = made(project)
    site.server.version, site.server.number = "4.9.0", (4, 9, 0)
    use(monkeypatch, password=fastgpt.PASSWORD)
    assert app.drifted(recipe) == "this FastGPT keeps its models in its database now"
    restarts = site.server.restarts
    made(project)
    assert [one["model"] for one in site.server.database] == [MODEL]
    assert site.config.read_text() == CONFIG
    assert site.server.restarts == restarts


# Both.


@releases("4.8.14", "4.15.1")
def test_it_chats_through_an_application_where_a_key_is_given(
    site: Site,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(monkeypatch, key=fastgpt.KEY)
    made(project)
    told = capsys.readouterr().out
    assert "FastGPT answers: Four." in told
    left = paths.output("m", "app").rglob("*")
    text = told + "".join(path.read_text() for path in left if path.is_file())
    assert not any(secret in text for secret in SECRETS)
    use(monkeypatch, key="wrong-of-a-test")
    with pytest.raises(UserError, match="no answer of 'an application': 500, unAuthApiKey") as bad:
        made(project)
    assert "wrong-of-a-test" not in str(bad.value)


def test_unship_forgets_nothing_that_it_cannot_reach(
    site: Site, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = made(project)
    use(monkeypatch, dir="", endpoint="")
    with pytest.raises(UserError, match=r"is in FastGPT's config\.json; set MODELWRIGHT_FASTGPT_D"):
        unship(recipe)


def test_without_a_fastgpt_the_files_alone_are_made(project: Project) -> None:
    recipe = made(project)
    assert app.lacks(recipe) == "MODELWRIGHT_FASTGPT_DIR"
    assert app.drifted(recipe) == ""
    assert unship(recipe) == []
    assert app.task(project.recipe("n", RECIPE + "serve: {}\n"))["file_dep"] == [
        Path("templates/fastgpt-compose.yaml.j2")
    ]


def test_it_comes_after_the_gateway_where_there_is_one(
    project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = project.recipe("m", RECIPE + "serve: {}\ngateway: {}\n")
    assert app.before(recipe) == [paths.manifest("m", "serve")]
    monkeypatch.setenv("MODELWRIGHT_GATEWAY_ENDPOINT", "http://127.0.0.1:3001")
    settings.current.cache_clear()
    assert app.before(recipe) == [paths.manifest("m", "gateway")]


def test_another_entry_wakes_the_stage_and_nothing_else(project: Project, folder: Path) -> None:
    fresh = app.key(project.recipe("m", RECIPE))
    assert app.key(project.recipe("m", RECIPE + "evaluate: {prompts: p.jsonl}\n")) == fresh
    assert app.key(project.recipe("m", RECIPE.replace("1.2", "1.0"))) != fresh
    assert str(folder) not in json.dumps(fresh)


# The compose file.


@pytest.mark.needs("docker-compose")
@pytest.mark.parametrize("digest", ["", f"@sha256:{64 * '0'}"])
def test_the_compose_file_is_sound_and_asks_for_every_password(folder: Path, digest: str) -> None:
    named = {service: f"{name}{digest}" for service, name in composefile.IMAGES.items()}
    (folder / "docker-compose.yml").write_text(composefile.text(named))
    check = ["docker-compose", "-f", str(folder / "docker-compose.yml"), "config"]
    bare = subprocess.run(check, capture_output=True, text=True, check=False, cwd=folder)
    assert bare.returncode != 0
    assert "set it in .env" in bare.stderr
    stack.make(folder, named)
    told = subprocess.run(check, capture_output=True, text=True, check=False, cwd=folder)
    assert told.returncode == 0, told.stderr
    services = yaml.safe_load(told.stdout)["services"]
    assert set(services) == {"pg", "mongo", "sandbox", "fastgpt", "mysql", "oneapi"}
    ports = [port for one in services.values() for port in one.get("ports", [])]
    assert sorted(ports) == ["127.0.0.1:3000:3000/tcp", "127.0.0.1:3001:3000/tcp"]
    assert all(one["healthcheck"]["test"] for one in services.values())
    assert {service: one["image"] for service, one in services.items()} == named
    assert stack.service(folder / "docker-compose.yml") == ("fastgpt", (4, 8, 14))


def test_the_images_of_the_compose_file_are_named_by_exact_versions() -> None:
    assert all(re.search(r":v?\d+\.\d+\.\d+(-\w+)?$", name) for name in composefile.IMAGES.values())


@pytest.mark.needs("docker-registry", "busybox")
def test_update_looks_up_every_image_of_the_compose_file(
    project: Project,
    other_registry: Registry,
    stand_in: tuple[bytes, bytes, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    named = {
        service: f"{other_registry.host}/{name}" for service, name in composefile.IMAGES.items()
    }
    digests = {}
    for name in named.values():
        repository, _, tag = name.removeprefix(f"{other_registry.host}/").partition(":")
        digests[name] = images.put(other_registry.host, repository, tag, stand_in)
    monkeypatch.setattr(composefile, "IMAGES", named)
    recipe = project.recipe("m", RECIPE)
    before = app.key(recipe)
    app.update(recipe)
    assert app.key(recipe) != before
    made(project)
    text = (paths.output("m", "app") / "docker-compose.yml").read_text()
    found = [one["image"] for one in yaml.safe_load(text)["services"].values()]
    assert found == [f"{name}@{digests[name]}" for name in named.values()]


def test_the_release_is_read_from_a_compose_file(folder: Path) -> None:
    made_file = stack.make(folder, composefile.IMAGES)
    assert stack.service(made_file) == ("fastgpt", (4, 8, 14))
    made_file.write_text("services: {web: {image: 'r.example.com/labring/fastgpt:v4.9.1-fix2'}}")
    assert stack.service(made_file) == ("web", (4, 9, 1))


@pytest.mark.parametrize("text", ["", "services: []", "services: {a: {image: b}}", "a: [", "\t"])
def test_a_compose_file_of_something_else_is_told(folder: Path, text: str) -> None:
    (folder / "compose.yaml").write_text(text)
    with pytest.raises(UserError, match=r"compose\.yaml: no (compose file|service)"):
        stack.service(folder / "compose.yaml")


# A Docker engine, for real.

STAND_IN = """
services:
  web:
    image: labring/fastgpt:v4.8.14
    network_mode: none
    stop_grace_period: 1s
    entrypoint: [sh, -c, "cat /app/data/config.json; exec sleep 600"]
    volumes: ["./config.json:/app/data/config.json"]
"""


@pytest.mark.needs("dockerd", "docker", "docker-compose", "busybox", "curl")
def test_a_real_engine_starts_it_and_shows_it_the_new_file(
    project: Project,
    folder: Path,
    engine: Engine,
    stand_in: tuple[bytes, bytes, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    engine.docker("import", "-", "labring/fastgpt:v4.8.14", text=gzip.decompress(stand_in[2]))
    (folder / "config.json").write_text(CONFIG, encoding="utf-8")
    (folder / "docker-compose.yml").write_text(STAND_IN)
    made(project)
    (name,) = engine.docker("ps", "--format", "{{.Names}}").split()
    try:
        logs = engine.docker("logs", name)
        assert logs.endswith(merged())
        assert (folder / "config.json").read_text() == merged()
        assert stack.restart(folder / "config.json", folder / "log")
        assert not stack.restart(folder / "docker-compose.yml", folder / "log")
    finally:
        engine.docker("rm", "--force", name)
