"""`doit new`: what it finds out, and that what it writes is a recipe."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.core import recipe
from tasks.core.errors import UserError
from tasks.core.new import basefacts, datafacts, drafting, origins, survey
from tests.conftest import Project, doit
from tests.core.sources.test_modelscope import publish
from tests.services import web
from tests.services.hub import Hub

CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}"
LLAMA3 = "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>{% endfor %}"
INST = "{% for m in messages %}[INST] {{ m.content }} [/INST]{% endfor %}"
CODE = {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}}
# The bases of the shipped recipes, as their own config.json and tokenizer_config.json have them.
BASES: Mapping[str, tuple[dict[str, Any], str, int]] = {
    "llama3-8b-agentflan": (
        {
            "architectures": ["LlamaForCausalLM"],
            "max_position_embeddings": 8192,
            "torch_dtype": "bfloat16",
        },
        LLAMA3,
        16_060_556_616,
    ),
    "qwen2-7b-agentflan": (
        {
            "architectures": ["Qwen2ForCausalLM"],
            "max_position_embeddings": 32768,
            "torch_dtype": "bfloat16",
        },
        CHATML,
        15_231_271_864,
    ),
    "internlm2-7b-agentflan": (
        {
            "architectures": ["InternLM2ForCausalLM"],
            "max_position_embeddings": 32768,
            "torch_dtype": "bfloat16",
            **CODE,
        },
        CHATML,
        15_475_432_800,
    ),
    "mistral-7b-agentflan": (
        {
            "architectures": ["MistralForCausalLM"],
            "max_position_embeddings": 32768,
            "torch_dtype": "bfloat16",
        },
        INST,
        14_483_498_224,
    ),
    "chatglm3-6b": (
        {
            "architectures": ["ChatGLMModel"],
            "seq_length": 8192,
            "torch_dtype": "float16",
            **CODE,
        },
        "",
        12_487_168_064,
    ),
}
ROW = {"id": 1, "conversation": [{"role": "user", "content": "Hello"}]}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return a folder with a small Llama's files."""
    return model_folder(tmp_path, "small", BASES["llama3-8b-agentflan"][0], LLAMA3, 1000)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "rows" / "data"
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text(json.dumps(ROW) + "\n")
    return folder.parent


def model_folder(
    place: Path, name: str, config: Mapping[str, Any], chat: str, weights: int
) -> Path:
    folder = place / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": chat}))
    (folder / "model.safetensors").touch()
    os.truncate(folder / "model.safetensors", weights)  # takes no room
    return folder


def new(project: Project, *words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return doit("new", *words, build=project.build, recipes=project.recipes, **environ)


def written(project: Project, name: str) -> dict[str, Any]:
    """Return what a recipe says; it must be one."""
    path = project.recipes / f"{name}.yaml"
    recipe.read(path)
    found: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    return found


def test_every_shipped_recipe_has_its_base_here() -> None:
    shipped = {path.stem for path in Path("recipes").glob("*.yaml")} - {"tiny-agent"}

    assert shipped == set(BASES)


@pytest.mark.parametrize("name", BASES)
def test_a_base_of_each_architecture_gives_a_recipe_that_renders(
    project: Project, tmp_path: Path, data: Path, name: str
) -> None:
    shipped = recipe.read(Path("recipes") / f"{name}.yaml")
    config, chat, weights = BASES[name]
    folder = model_folder(tmp_path, shipped.base.label.rpartition("/")[2], config, chat, weights)

    done = new(project, "m", "--base", str(folder), "--data", str(data))
    assert done.returncode == 0, done.stderr
    found = written(project, "m")
    assert found["train"]["prompt_template"] == (
        shipped.train.prompt_template if shipped.train else "chatglm3"
    )
    assert found["base"].get("trust_remote_code", False) == ("auto_map" in config)
    done = doit(
        "config:m", "dockerfile:m", "onboard:m", build=project.build, recipes=project.recipes
    )
    assert done.returncode == 0, done.stderr


def test_without_data_nothing_is_trained(project: Project, base: Path) -> None:
    assert new(project, "m", "--base", str(base)).returncode == 0

    found = written(project, "m")
    assert set(found) == {"base", "image", "onboard"}
    assert "# train:" in (project.recipes / "m.yaml").read_text()


@pytest.mark.parametrize("data", [[], ["--data", "recipes/tiny-agent/data"]])
def test_what_is_commented_out_may_be_taken_in(
    project: Project, base: Path, data: list[str]
) -> None:
    new(project, "m", "--base", str(base), *data)

    path = project.recipes / "m.yaml"
    text = re.sub(r"^# (\w+: \{)", r"\1", path.read_text("utf-8"), flags=re.MULTILINE)
    path.write_text(text)
    assert {"upload", "serve", "gateway", "app", "data", "train"} <= set(written(project, "m"))


def test_what_was_found_is_told_to_people_and_programs(
    project: Project, base: Path, data: Path
) -> None:
    told = json.loads(new(project, "m", "--base", str(base), "--json").stdout)
    assert (told["architecture"], told["context"]) == ("LlamaForCausalLM", 8192)

    text = new(project, "n", "--base", str(base), "--data", str(data)).stdout
    assert "architecture     LlamaForCausalLM" in text
    assert "data.format      agentflan" in text
    assert "to decide: held-out prompts" in text
    assert text.splitlines()[-1] == "next: doit plan n"


def test_a_recipe_that_is_there_is_not_touched(project: Project, base: Path) -> None:
    path = project.recipes / "m.yaml"
    path.write_text("mine")

    done = new(project, "m", "--base", str(base))
    assert done.returncode == 3
    assert "is there already" in done.stderr
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["m"], "give --base"),
        ([], "which model?"),
        (["train", "--base", "a/b"], "is the name of a stage"),
        (["My Model", "--base", "a/b"], "cannot name a model"),
        (["../m", "--base", "a/b"], "cannot name a model"),
        (["m", "--base", "./nothing"], "no such folder"),
        (["m", "--base", "a/b/c"], "no such folder"),
        (["m", "--base", "docs"], "no config.json"),
        (["m" * 300, "--base", "a/b"], "is too long for a model"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_left(
    project: Project, words: list[str], said: str
) -> None:
    done = new(project, *words)

    assert done.returncode == 3
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(project.recipes.iterdir()) == []


@pytest.mark.parametrize(
    "evil", ["X\nimage: {base: evil}", "X: y", '"', "X #", "{{ 1 }}", "\u2028image: 1"]
)
def test_what_a_file_says_cannot_write_recipe_keys(
    project: Project, tmp_path: Path, evil: str
) -> None:
    config = {"architectures": [evil], "torch_dtype": evil, "max_position_embeddings": evil}
    folder = model_folder(tmp_path, "evil", config, evil, 10)
    rows = tmp_path / "rows"
    (rows / "a\nb: c").mkdir(parents=True)
    (rows / "a\nb: c" / "x.jsonl").write_text(json.dumps({evil: 1}))

    done = new(project, "m", "--base", str(folder), "--data", str(rows))
    assert done.returncode == 0, done.stderr
    found = written(project, "m")
    assert set(found) == {"base", "data", "train", "image"}
    assert found["data"]["folder"] == "a\nb: c"


def test_a_terminal_is_asked(project: Project, base: Path, data: Path) -> None:
    ours, theirs = pty.openpty()
    environ = {**os.environ, "MODELWRIGHT_RECIPES": str(project.recipes)}
    child = subprocess.Popen(
        [sys.executable, "-m", "doit", "new", "m"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environ,
    )
    os.write(ours, f"{base}\n{data}\n".encode())
    assert child.wait(30) == 0
    shown = os.read(ours, 4096).decode()
    assert "Base weights" in shown
    assert "train" in written(project, "m")
    os.close(ours)
    os.close(theirs)


def test_a_repository_is_looked_at_without_its_weights(project: Project, hub: Hub) -> None:
    config, chat, _ = BASES["qwen2-7b-agentflan"]
    hub.put(
        "Qwen/Qwen2-7B-Instruct",
        {
            "config.json": json.dumps(config).encode(),
            "tokenizer_config.json": json.dumps({"chat_template": chat}).encode(),
            "model.safetensors": bytes(5000),
        },
    )
    rows = (json.dumps(ROW) + "\n").encode() * 20_000
    hub.put("internlm/Agent-FLAN", {"data/a.jsonl": rows}, kind="datasets")

    done = new(project, "m", "--base", "Qwen/Qwen2-7B-Instruct", "--data", "internlm/Agent-FLAN")
    assert done.returncode == 0, done.stderr
    found = written(project, "m")
    assert found["base"] == {"hub": "Qwen/Qwen2-7B-Instruct", "revision": "main"}
    assert found["data"]["folder"] == "data"
    assert (found["data"]["format"], found["train"]["prompt_template"]) == (
        "agentflan",
        "qwen_chat",
    )
    assert not hub.requests("model.safetensors")
    assert sum(hub.sent.values()) < len(rows)


def test_a_repository_on_modelscope_is_looked_at(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, chat, _ = BASES["internlm2-7b-agentflan"]
    files = {
        "config.json": json.dumps(config).encode(),
        "tokenizer_config.json": json.dumps({"chat_template": chat}).encode(),
    }
    with web.running() as server:
        publish(server, files, "c1")
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", server.url)
        done = new(project, "m", "--base", "modelscope:org/model")

    assert done.returncode == 0, done.stderr
    assert written(project, "m")["base"] == {"modelscope": "org/model", "trust_remote_code": True}


def test_the_address_of_a_repository_will_do(project: Project) -> None:
    done = new(project, "m", "--offline", "-b", "https://huggingface.co/THUDM/chatglm3-6b")

    assert done.returncode == 0, done.stderr
    assert written(project, "m")["base"] == {
        "hub": "THUDM/chatglm3-6b",
        "revision": "main",
        "architecture": "ChatGLMModel",
    }


HUB, SCOPE = "https://huggingface.co", "https://www.modelscope.cn"


@pytest.mark.parametrize(
    ("word", "part", "expected"),
    [
        (f"{HUB}/a/b", "base", ("hub", "a/b", "")),
        (f"{HUB}/a/b.git", "base", ("hub", "a/b", "")),
        (f"{HUB}/a/b-1.5/tree/main", "base", ("hub", "a/b-1.5", "main")),
        (f"{HUB}/a/b/tree/v2/?x=y#z", "base", ("hub", "a/b", "v2")),
        (f"{HUB}/datasets/a/b", "data", ("hub", "a/b", "")),
        ("https://modelscope.cn/models/a/b/", "base", ("modelscope", "a/b", "")),
        (f"{SCOPE}/models/a/b/summary", "base", ("modelscope", "a/b", "")),
        (f"{SCOPE}/a/b.git", "base", ("modelscope", "a/b", "")),
        (f"{SCOPE}/datasets/a/b/files", "data", ("modelscope", "a/b", "")),
        ("https://git.local/a/b.git", "base", ("git", "https://git.local/a/b.git", "")),
        ("git@git.local:a/b.git", "data", ("git", "git@git.local:a/b.git", "")),
        ("https://a.local/m.tar.gz", "base", ("http", "https://a.local/m.tar.gz", "")),
        ("http://a.local/m.zip", "data", ("http", "http://a.local/m.zip", "")),
        ("http://a.local/m.zip?v=2", "data", ("http", "http://a.local/m.zip?v=2", "")),
    ],
)
def test_an_address_is_what_people_mean_by_it(
    word: str, part: str, expected: tuple[str, str, str]
) -> None:
    found = origins.origin(word, Path("m.yaml"), part)
    assert (found.way, found.value, found.revision) == expected


@pytest.mark.parametrize(
    ("word", "part", "said"),
    [
        (f"{HUB}/datasets/a/b", "base", "the page of a dataset; name a model as --base"),
        (f"{HUB}/a/b", "data", "the page of a model; name a dataset as --data"),
        (f"{HUB}/datasets/a", "base", "not a repository's page"),
        (f"{HUB}/spaces/a/b", "base", "not a repository's page"),
        (f"{HUB}/a/b/tree/main/part", "base", "not a repository's page"),
        (f"{HUB}/a", "base", "not a repository's page"),
    ],
)
def test_a_page_of_anything_else_is_refused(word: str, part: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        origins.origin(word, Path("m.yaml"), part)


@pytest.mark.parametrize("joint", [" ", "="])
def test_an_address_with_an_equals_sign_is_no_variable_of_doit_s(
    project: Project, joint: str
) -> None:
    urls = [f"https://a.local/{part}.zip?x=y" for part in ("base", "data")]
    words = f"--base{joint}{urls[0]} m --offline --data{joint}{urls[1]}".split()
    done = new(project, *words)
    assert done.returncode == 0, done.stderr
    found = written(project, "m")
    assert [found[part]["http"] for part in ("base", "data")] == urls


def test_a_variable_is_no_model(project: Project) -> None:
    done = new(project, "m", "checkpoint=3", "--base", "a/b", "--offline")
    assert (done.returncode, done.stdout) == (3, "")
    assert "Give it one name" in done.stderr


def test_an_archive_gives_a_recipe_whose_digest_is_to_decide(project: Project) -> None:
    url = "https://a.local/m.zip"
    done = new(project, "m", "--base", url, "--data", url)

    assert done.returncode == 0, done.stderr
    found, zeros = written(project, "m"), f"sha256:{'0' * 64}"
    assert found["base"] == {"http": url, "digest": zeros}
    assert found["data"] == {"http": url, "digest": zeros, "format": "openai"}
    assert done.stdout.count("to decide: the archive's digest") == 2


def test_a_revision_that_the_page_shows_is_kept(project: Project) -> None:
    done = new(project, "m", "--offline", "-b", f"{HUB}/THUDM/chatglm3-6b/tree/1.0")

    assert done.returncode == 0, done.stderr
    assert written(project, "m")["base"]["revision"] == "1.0"


def test_a_folder_is_one_from_where_people_stand(project: Project, base: Path) -> None:
    """./doitw goes to the project, and says from where."""
    done = new(project, "m", "--base", "../small", DOITW_FROM=str(project.recipes))

    assert done.returncode == 0, done.stderr
    assert written(project, "m")["base"] == {"path": str(base)}


def test_a_folder_among_the_recipes_is_told_from_there(project: Project, base: Path) -> None:
    """A colleague has the recipes elsewhere."""
    other = base.rename(project.recipes / "other")
    done = new(project, "m", "--base", str(other))

    assert done.returncode == 0, done.stderr
    assert written(project, "m")["base"] == {"path": "../other"}
    assert recipe.read(project.recipes / "m.yaml").beside("../other") == other


def test_a_gated_repository_gives_what_its_name_tells(project: Project, hub: Hub) -> None:
    name = "meta-llama/Meta-Llama-3-8B-Instruct"
    hub.put(name, {"config.json": b"{}", "model.safetensors": bytes(5000)})
    hub.repos[f"models/{name}"].gated = 401

    done = new(project, "m", "--base", name)
    assert done.returncode == 0, done.stderr
    assert written(project, "m")["base"]["architecture"] == "LlamaForCausalLM"
    assert "is gated" in (project.recipes / "m.yaml").read_text()
    assert f"{name} is gated: ask for access" in done.stdout


def test_a_repository_that_there_is_not_is_said(project: Project, hub: Hub) -> None:
    done = new(project, "m", "--base", "no/such")

    assert done.returncode == 3
    assert "no such model" in done.stderr
    assert list(project.recipes.iterdir()) == []


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"conversation": []}, "agentflan"),
        ({"messages": []}, "openai"),
        ({"conversations": [{"from": "human"}]}, "sharegpt"),
        ({"instruction": "a", "input": "", "output": "b"}, "alpaca"),
        ({"text": "a"}, "text"),
        ({"prompt": "a"}, None),
        ({"messages": "a"}, None),
    ],
)
@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_the_form_of_rows_is_told_by_the_first(
    tmp_path: Path, row: dict[str, Any], form: str | None, suffix: str
) -> None:
    rows = [row] * 3
    text = json.dumps(rows) if suffix == "json" else "\n".join(map(json.dumps, rows))
    (tmp_path / f"a.{suffix}").write_text(text)
    (tmp_path / "dataset_info.json").write_text('{"not": "rows"}')

    found = datafacts.of(survey.Folder(tmp_path))
    assert (found.format, found.files) == (form, 1)
    assert bool(found.keys) is (form is None)


def test_text_files_are_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Once upon a time.")

    assert datafacts.of(survey.Folder(tmp_path)).format == "text"


def test_a_dataset_without_rows_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").touch()
    (tmp_path / "LICENSE.txt").touch()

    assert "only .parquet, .txt" in datafacts.of(survey.Folder(tmp_path)).notes[0]


@pytest.mark.parametrize(
    ("architecture", "version"),
    [("Qwen3ForCausalLM", "0.8.4"), ("Qwen2ForCausalLM", "0.6.6"), ("NobodyKnows", "0.6.6")],
)
def test_the_version_of_vllm_serves_the_architecture(
    tmp_path: Path, architecture: str, version: str
) -> None:
    folder = model_folder(tmp_path, "m", {"architectures": [architecture]}, "", 10)

    assert basefacts.of(survey.Folder(folder), "m").vllm == version


def test_where_the_catalogue_knows_that_there_is_no_template_none_is_told(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "phi-4", {"architectures": ["Phi3ForCausalLM"]}, "", 10)

    assert basefacts.of(survey.Folder(folder), str(folder)).template is None


@pytest.mark.parametrize("word", ["yes", "1e3", "a: b", "null", "it's", "#a", "模型", "/a b"])
def test_a_value_is_read_back_as_it_was(word: str) -> None:
    assert yaml.safe_load(f"a: {drafting.spelled(word)}") == {"a": word}
