"""The model in Xinference and in vLLM: brought, left alone, found out about, taken away."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tasks import STAGES, serve
from tasks.core import identity
from tasks.core.engine import manifest, plan, stage
from tasks.core.errors import UserError
from tasks.core.web.api import Answer
from tasks.core.xinference.client import Client
from tests.conftest import Project
from tests.services import xinference
from tests.services.process import free_port
from tests.services.served import FILES, TEMPLATE, put, recipe, ship, unship
from tests.services.xinference import Xinference


@pytest.fixture
def there(project: Project, monkeypatch: pytest.MonkeyPatch) -> Iterator[Xinference]:
    """An Xinference at an endpoint, without a login."""
    with xinference.running() as served:
        put(monkeypatch, xinference_endpoint=served.url)
        yield served


def test_a_model_is_registered_launched_and_asked(project: Project, there: Xinference) -> None:
    made = ship(recipe(project, "size: '0_1', name: tiny"))
    assert there.did() == ["POST /v1/model_registrations/LLM", "POST /v1/models"]
    assert there.registered["m"]["chat_template"] == TEMPLATE
    assert there.registered["m"]["stop_token_ids"] == [4]
    assert there.registered["m"]["stop"] == ["<|eot_id|>"]
    assert list(there.running) == ["tiny"]
    answers = json.loads((project.build / "m/serve/answers.json").read_text())
    assert [answer["answer"] for answer in answers] == [
        f"from {len(TEMPLATE)} letters of a template"
    ] * 2
    assert made["facts"]["uid"] == "tiny"
    assert str(project.build) not in json.dumps(made)
    assert there.url not in json.dumps(made["facts"])


def test_a_second_run_changes_nothing(project: Project, there: Xinference) -> None:
    made = recipe(project)
    first = ship(made)
    there.did()
    assert stage.is_fresh("serve", serve, made)
    assert ship(made) == first
    assert there.did() == []


REGISTER, LAUNCH = "POST /v1/model_registrations/LLM", "POST /v1/models"
UNREGISTER, END = "DELETE /v1/model_registrations/LLM/m", "DELETE /v1/models/m"


@pytest.mark.parametrize(
    ("what", "reason", "done"),
    [
        ("restarted", "m is not running", [LAUNCH]),
        ("unregistered", "m is not registered", [REGISTER, END, LAUNCH]),
        ("replicas", "m is not the model that was launched", [END, LAUNCH]),
        ("another template", "m is not the model that was launched", None),
    ],
)
def test_what_is_lost_there_is_found_out_and_only_that_is_done_again(
    project: Project, there: Xinference, what: str, reason: str, done: list[str] | None
) -> None:
    made = recipe(project)
    first = ship(made)
    there.did()
    if what == "restarted":
        there.restart()
    elif what == "unregistered":
        del there.registered["m"]
    elif what == "replicas":
        there.running["m"]["replica"] = 3
    else:
        other = f"modelwright:m@000000000000/{identity.known(made)}"
        there.registered["m"]["model_description"] = other
        done = [UNREGISTER, REGISTER, END, LAUNCH]
    assert serve.drifted(made) == reason
    assert not stage.is_fresh("serve", serve, made)
    there.did()
    assert ship(made) == first
    assert there.did() == done
    assert serve.drifted(made) == ""


@pytest.mark.parametrize(
    ("before", "after", "done"),
    [
        ("size: '0_1'", "size: '0_1', replicas: 2", [END, LAUNCH]),
        ("size: '0_1'", "size: '0_1', name: x", [END, LAUNCH]),
        ("size: '0_1'", "size: '0_1', context_length: 512", [UNREGISTER, REGISTER, END, LAUNCH]),
        ("size: '0_1'", "size: '0_1', model_name: other", [UNREGISTER, REGISTER, END, LAUNCH]),
    ],
)
def test_only_what_a_new_recipe_changes_is_redone(
    project: Project, there: Xinference, before: str, after: str, done: list[str]
) -> None:
    ship(recipe(project, before))
    there.did()
    changed = recipe(project, after)
    ship(changed)
    assert there.did() == done
    assert len(there.running) == len(there.registered) == 1
    assert serve.drifted(changed) == ""


def test_other_weights_in_the_same_folder_are_launched_anew(
    project: Project, there: Xinference
) -> None:
    made = recipe(project)
    ship(made)
    there.did()
    stage.clean("base", made)
    ship(recipe(project, files={"extra.json": b"{}"}))
    assert there.did() == [UNREGISTER, REGISTER, END, LAUNCH]


def test_an_adapter_is_launched_on_top_of_its_base(project: Project, there: Xinference) -> None:
    project.result("m", "base", FILES)
    project.result("m", "adapter", {"adapter_config.json": b"{}"})
    text = "base: {hub: a/b}\nadapter: {path: x}\nserve: {size: '0_1', weights: adapter}\n"
    made = project.recipe("m", text)
    first = ship(made)
    body = next(body for _, path, body in there.asked if path == "/v1/models" and body)
    folder = str(project.build / "m/adapter")
    assert body["peft_model_config"] == {"lora_list": [{"lora_name": "m", "local_path": folder}]}
    spec = there.registered["m"]["model_specs"][0]
    assert spec["model_uri"] == str(project.build / "m/base")
    assert str(project.build) not in json.dumps(first)
    there.did()
    assert ship(made) == first
    assert there.did() == []
    stage.clean("adapter", made)
    project.result("m", "adapter", {"adapter_config.json": b"{ }"})
    ship(made)
    assert there.did() == [UNREGISTER, REGISTER, END, LAUNCH]


def test_the_plan_tells_the_drift(project: Project, there: Xinference) -> None:
    made = recipe(project)
    ship(made)
    planner = plan.Planner({"base": STAGES["base"], "serve": serve})
    base = manifest.read(project.build / "m/base/manifest.json")
    planner.contents["base", "m"] = base.content if base else None
    assert planner.judge("serve", made).verdict == plan.FRESH
    there.restart()
    step = planner.judge("serve", made)
    assert (step.verdict, step.reasons) == (plan.RUN, ["m is not running"])


def test_unship_takes_away_what_was_made_and_nothing_else(
    project: Project, there: Xinference
) -> None:
    there.registered["other"] = {"model_name": "other", "model_description": "theirs"}
    there.running["theirs"] = {"id": "theirs", "model_name": "other"}
    made = recipe(project, "size: '0_1', name: tiny")
    ship(made)
    assert unship(made) == ""
    assert (list(there.registered), list(there.running)) == (["other"], ["theirs"])
    assert not (project.build / "m/serve").exists()
    there.did()
    assert unship(made) == ""
    assert there.did() == []


def test_unship_leaves_what_others_made_since(project: Project, there: Xinference) -> None:
    made = recipe(project)
    ship(made)
    there.running["m"]["model_description"] = "modelwright:m@000000000000"
    assert unship(made) == ""
    assert "m" in there.running
    assert "m" not in there.registered


def test_another_recipe_s_model_of_the_name_is_left_alone(
    project: Project, there: Xinference
) -> None:
    made = recipe(project)
    ship(made)
    owner = identity.known(made)
    stage.clean("serve", made)
    (project.recipes / "m.lock").unlink()
    there.did()
    told = rf"'m' \(m\), and is left alone; .* put `owner: {{id: {owner}}}` into its lock"
    with pytest.raises(UserError, match=told):
        ship(made)
    del there.running["m"]
    with pytest.raises(UserError, match=f"registered by others, .* {owner}}}` into its lock"):
        ship(made)
    assert unship(made) == ""
    assert there.did() == []
    assert "m" in there.registered


def test_unship_without_the_lock_says_so_and_forgets_nothing(
    project: Project, there: Xinference
) -> None:
    made = recipe(project)
    ship(made)
    owner, lock = identity.known(made), project.recipes / "m.lock"
    kept = lock.read_text()
    lock.unlink()
    there.did()
    said = unship(made)
    assert "model 'm' stays, as it bears another recipe's mark; if it is not this" in said
    assert (
        f"or, where that is this recipe in another checkout, put `owner: {{id: {owner}}}`" in said
    )
    assert there.did() == []
    assert (project.build / "m/serve/manifest.json").exists()
    lock.write_text(kept)
    assert unship(made) == ""
    assert (there.registered, there.running) == ({}, {})


def test_a_mark_without_an_owner_is_known_by_the_receipt_and_gets_one(
    project: Project, there: Xinference
) -> None:
    made = recipe(project)
    old = "modelwright:m@000000000000"
    there.registered["m"] = {"model_name": "m", "model_description": old}
    with pytest.raises(UserError, match="'m' is registered by others, and is left alone"):
        ship(made)
    facts = {"uid": "m", "model_name": "m", "registration": old}
    project.result("m", "serve", {"answers.json": b"[]"}, facts)
    ship(made)
    assert identity.known(made) in there.registered["m"]["model_description"]


def test_unship_leaves_a_model_without_a_mark(project: Project, there: Xinference) -> None:
    there.running["m"] = {"id": "m", "model_name": "other"}
    project.result("m", "serve", {"answers.json": b"[]"}, {"uid": "m"})
    assert unship(recipe(project)) == ""
    assert "m" in there.running


def test_a_model_that_moves_to_vllm_leaves_xinference(
    project: Project, there: Xinference, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(recipe(project))
    with xinference.running() as other:
        other.running = xinference.vllm("m", "").running
        put(monkeypatch, vllm_endpoint=other.url)
        ship(recipe(project, "by: vllm"))
    assert (there.registered, there.running) == ({}, {})


def test_unship_keeps_the_receipt_of_a_server_that_is_down(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    with xinference.running() as served:
        put(monkeypatch, xinference_endpoint=served.url)
        made = recipe(project)
        ship(made)
    assert served.url in unship(made)
    assert (project.build / "m/serve/manifest.json").exists()


def test_unship_from_another_server_forgets_nothing(
    project: Project,
    there: Xinference,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = recipe(project)
    ship(made)
    with xinference.running() as other:
        put(monkeypatch, xinference_endpoint=other.url)
        assert f"the model is in the server at {there.url}; set MODELWRIGHT_XI" in unship(made)
        assert (project.build / "m/serve/manifest.json").exists()
        ship(made)
        assert f"the model at {there.url} stays; unship before" in capsys.readouterr().out
        assert unship(made) == ""
        assert (other.registered, other.running) == ({}, {})
    put(monkeypatch, xinference_endpoint=there.url)
    assert unship(made) == ""
    assert (there.registered, there.running) == ({}, {})


def test_an_older_xinference_gets_version_1(project: Project, there: Xinference) -> None:
    there.version = 1
    ship(recipe(project))
    assert there.registered["m"]["version"] == 1
    assert there.registered["m"]["model_specs"][0]["quantizations"] == ["none"]
    assert "quantization" not in there.registered["m"]["model_specs"][0]


def test_tools_are_registered_with_a_family_and_a_parser(
    project: Project, there: Xinference
) -> None:
    made = ship(recipe(project, "size: '0_1', tool_parser: qwen"))
    spec = there.registered["m"]
    assert (spec["model_family"], spec["tool_parser"]) == ("qwen2.5-instruct", "qwen")
    assert made["facts"]["tools"] is True
    answers = json.loads((project.build / "m/serve/answers.json").read_text())
    assert answers[1]["called"] == ["weather"]


def test_a_login_is_used_and_never_told(
    project: Project, there: Xinference, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.wants_login, there.users = True, {"admin": "right-password"}
    put(monkeypatch, xinference_user="admin", xinference_password="right-password")
    made = recipe(project)
    ship(made)
    assert list(there.running) == ["m"]
    assert serve.drifted(made) == ""
    everything = [path.read_bytes() for path in project.build.rglob("*") if path.is_file()]
    assert not any(b"right-password" in content for content in everything)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "it wants a login; set MODELWRIGHT_XINFERENCE_USER"),
        (
            {"xinference_user": "admin", "xinference_password": "wrong-password"},
            "Incorrect username or password; set MODELWRIGHT_XINFERENCE_USER",
        ),
        ({"xinference_api_key": "xf-secret"}, "an API key may only ask; set MODELWRIGHT_XINF"),
        ({"xinference_api_key": "xf-wrong"}, "Could not validate credentials"),
    ],
)
def test_a_login_that_fails_is_told(
    project: Project,
    there: Xinference,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, str],
    said: str,
) -> None:
    there.wants_login, there.users, there.keys = True, {"admin": "right"}, {"xf-secret"}
    put(monkeypatch, **values)
    with pytest.raises(UserError) as caught:
        ship(recipe(project))
    assert said in str(caught.value)
    assert there.url in str(caught.value)
    for secret in ("wrong-password", "xf-secret", "xf-wrong"):
        assert secret not in str(caught.value)
    assert (there.registered, there.running) == ({}, {})


def test_no_part_of_a_password_is_told_where_words_are_cut_off(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, xinference_password="right-password")
    with Client("http://127.0.0.1:9") as client:
        words = client.said(Answer(500, {"detail": "x" * 595 + "right-password"}))
    assert "right" not in words


def test_an_api_key_will_do_where_the_model_runs_already(
    project: Project, there: Xinference, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(project)
    ship(made)
    there.wants_login, there.keys = True, {"xf-secret"}
    put(monkeypatch, xinference_api_key="xf-secret")
    stage.clean("serve", made)
    ship(made)
    assert serve.drifted(made) == ""


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("model_name: tiny-llama", "a model 'tiny-llama' is built in, and is left alone"),
        ("model_name: other", "a model 'other' is registered by others, and is left alone"),
        ("name: theirs", "another model runs as 'theirs' (other), and is left alone"),
        ("context_length: 2048", "m.yaml: serve.context_length: 2048 is more than the 1024 tokens"),
        ("tool_parser: qwn", "Xinference has no parser 'qwn', perhaps you meant 'qwen'?"),
        ("tool_parser: glm4", "give one of these as `serve.family` in"),
        ("engine: vllm", "'m' does not start: Model m cannot be run on engine vllm."),
        ("gpus: 1", "The parameter `n_gpu` must be greater than 0"),
        ("chat_template: none.jinja", "none.jinja: no such file"),
    ],
)
def test_what_cannot_be_served_is_told_and_what_is_there_stays(
    project: Project, there: Xinference, part: str, said: str
) -> None:
    there.registered["other"] = {"model_name": "other", "model_description": "theirs"}
    there.running["theirs"] = {"id": "theirs", "model_name": "other"}
    with pytest.raises(UserError) as caught:
        ship(recipe(project, f"size: '0_1', {part}"))
    assert said in str(caught.value)
    assert there.registered["other"]["model_description"] == "theirs"
    assert list(there.running) == ["theirs"]
    assert not (project.build / "m/serve").exists()


def test_a_server_that_does_not_see_the_folder_is_told(
    project: Project, there: Xinference, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(monkeypatch, xinference_models="/elsewhere")
    with pytest.raises(UserError, match=r"URI /elsewhere/m/base.*MODELWRIGHT_XINFERENCE_MODELS"):
        ship(recipe(project))


@pytest.mark.parametrize("size", ["", "size: '0_1'"])
def test_a_model_without_a_template_or_a_size_is_refused(
    project: Project, there: Xinference, size: str
) -> None:
    files = {"tokenizer_config.json": b"{}"} if size else {}
    with pytest.raises(UserError, match=r"no chat template|serve\.size"):
        ship(recipe(project, size or "replicas: 1", files))
    assert there.did() == []


def test_an_endpoint_that_is_down_or_none_is_told(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    put(monkeypatch, xinference_endpoint=url)
    with pytest.raises(UserError, match=f"Xinference at {url}: no answer"):
        ship(recipe(project))
    put(monkeypatch, xinference_endpoint="xinference:9997")
    with pytest.raises(UserError, match="write `http://host:port`"):
        ship(recipe(project))


def test_an_answer_that_is_not_json_is_told(project: Project, there: Xinference) -> None:
    there.garbage.add("/v1/models")
    with pytest.raises(UserError, match=r"502, an answer that is not JSON .*Bad Gateway"):
        ship(recipe(project))
