"""A channel at each gateway: added, found again, changed where it differs, tested, taken away."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks import gateway
from tasks.core import gateways, identity, paths, settings
from tasks.core.engine import manifest
from tasks.core.errors import UserError
from tasks.core.fastgpt import passwords
from tasks.core.recipe import Recipe
from tests.conftest import Project
from tests.services import aiproxy, oneapi
from tests.services.aiproxy import AIProxy
from tests.services.jsonserver import ModelServer
from tests.services.newapi import NewApi
from tests.services.oneapi import OneApi

RECIPE = "base: {hub: gpt2}\ngateway: {}\n"
SERVED = "m"
KINDS = {"oneapi": OneApi, "newapi": NewApi, "aiproxy": AIProxy}
SECRETS = (oneapi.TOKEN, oneapi.PASSWORD, oneapi.KEY, aiproxy.ADMIN_KEY, "upstream-of-a-test")


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """The model's server."""
    made = ModelServer(SERVED)
    with made.running():
        yield made


@pytest.fixture(params=KINDS)
def there(
    request: pytest.FixtureRequest,
    project: Project,
    server: ModelServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[OneApi]:
    """A gateway of each kind, and the settings for it."""
    made = KINDS[request.param]()
    token = aiproxy.ADMIN_KEY if request.param == "aiproxy" else oneapi.TOKEN
    with made.running():
        use(monkeypatch, kind=request.param, endpoint=made.url, token=token, upstream=server.url)
        yield made


def only(kind: str) -> pytest.MarkDecorator:
    """Let a test have a gateway of one kind alone."""
    return pytest.mark.parametrize("there", [kind], indirect=True)


@pytest.fixture
def one(project: Project, server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[OneApi]:
    """A One API, and the settings for it."""
    made = OneApi()
    with made.running():
        use(monkeypatch, endpoint=made.url, token=oneapi.TOKEN, upstream=server.url)
        yield made


def use(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Set settings of the gateway."""
    for name, value in values.items():
        monkeypatch.setenv(f"MODELWRIGHT_GATEWAY_{name.upper()}", value)
    settings.current.cache_clear()


def ship(project: Project, text: str = RECIPE) -> Recipe:
    return project.make("gateway", project.recipe("m", text))


def unship(recipe: Recipe) -> list[str]:
    return gateway.undo(recipe, manifest.read(paths.manifest("m", "gateway")))


def models_of(there: OneApi, *names: str) -> Any:
    """Return models as this kind of gateway keeps them."""
    return list(names) if isinstance(there, AIProxy) else ",".join(names)


def theirs(there: OneApi, *models: str, **values: Any) -> dict[str, Any]:
    """Put somebody's channel of our name there, for our model if none is said; return it."""
    served = models_of(there, *(models or [SERVED]))
    return dict(there.has(name="m", models=served, base_url="http://theirs", **values))


def is_as_before(there: OneApi, *before: dict[str, Any]) -> bool:
    """Return whether channels have all that they had; no matter what they got besides."""
    pairs = zip(there.channels, filter(None, before), strict=True)
    return all(channel == {**channel, **had} for channel, had in pairs)


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


def test_only_a_recipe_that_asks_gets_a_channel(project: Project) -> None:
    assert gateway.wanted(project.recipe("m", RECIPE))
    assert not gateway.wanted(project.recipe("n", "base: {hub: gpt2}"))


def test_a_channel_is_added_and_reaches_the_model(
    there: OneApi, server: ModelServer, project: Project
) -> None:
    ship(project)
    (channel,) = there.channels
    assert (channel["name"], there.models(channel), channel["status"]) == ("m", ["m"], 1)
    assert server.lines("POST")[0] == "POST /v1/chat/completions"


def test_a_second_time_changes_nothing(there: OneApi, project: Project) -> None:
    recipe = ship(project)
    before = [dict(channel) for channel in there.channels]
    assert not gateway.drifted(recipe)
    there.asked.clear()
    ship(project)
    assert there.channels == before
    assert not [line for line in there.lines("POST", "PUT") if "channel" in line]


@pytest.mark.parametrize(
    "change",
    [
        {"base_url": "http://127.0.0.1:9"},
        {"status": 2},
        {"status": 3},
    ],
)
def test_what_was_changed_by_hand_is_noticed_and_put_right(
    there: OneApi, project: Project, change: dict[str, Any]
) -> None:
    recipe = ship(project)
    good = dict(there.channels[0])
    there.channels[0].update(change)
    assert gateway.drifted(recipe) == f"channel 'm' has another {next(iter(change))}"
    ship(project)
    assert there.channels == [good]


def test_other_channels_and_what_the_recipe_does_not_say_stay(
    there: OneApi, project: Project
) -> None:
    other = dict(there.has(name="m2", models=[] if isinstance(there, AIProxy) else "x"))
    ship(project)
    there.channels[1].update(weight=7, priority=5, key="sk-changed")
    there.channels[1]["base_url"] = "http://127.0.0.1:9"
    ship(project)
    assert there.channels[0] == other
    changed = there.channels[1]
    assert (changed["weight"], changed["priority"], changed["key"]) == (7, 5, "sk-changed")


def test_another_name_for_clients_is_mapped(there: OneApi, project: Project) -> None:
    text = RECIPE.replace("{}", "{name: shown, model: llama-3-instruct, group: vip, priority: 3}")
    ship(project, text)
    (channel,) = there.channels
    assert there.models(channel) == ["llama-3-instruct"]
    assert there.mapping(channel) == {"llama-3-instruct": SERVED}
    assert (channel["name"], channel["priority"]) == ("shown", 3)
    assert channel.get("group") == "vip" or channel.get("sets") == ["vip"]


def test_a_placeholder_stands_for_a_key_that_is_not_needed(there: OneApi, project: Project) -> None:
    ship(project)
    assert there.channels[0]["key"] == gateways.channel.NO_KEY


def test_the_key_of_the_model_s_server_goes_into_the_channel(
    there: OneApi,
    server: ModelServer,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.key = "upstream-of-a-test"
    told = f"Not authenticated.*\nthe server at {server.url} wants a key; set .*UPSTREAM_KEY to one"
    with pytest.raises(UserError, match=told):
        ship(project)
    use(monkeypatch, upstream_key=server.key)
    ship(project)
    assert there.channels[0]["key"] == server.key
    left = paths.output("m", "gateway").rglob("*")
    text = "".join(path.read_text() for path in left if path.is_file())
    assert not any(secret in text + capsys.readouterr().out for secret in SECRETS)


def test_clients_chat_through_it_where_a_key_is_given(
    there: OneApi,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(monkeypatch, key=there.client_key())
    ship(project)
    assert "POST /v1/chat/completions" in there.lines("POST")
    assert "m answers: Four." in capsys.readouterr().out


def test_a_gateway_that_caches_channels_is_waited_for(
    one: OneApi, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, key=oneapi.KEY)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    one.stale = 3
    ship(project)
    one.stale = 10**9
    monkeypatch.setattr("tasks.core.gateways.oneapi.SYNC", 0.0)
    with pytest.raises(UserError, match=r"无可用渠道.*If the gateway caches channels, restart it"):
        ship(project)


def test_a_gateway_that_is_not_up_is_started_from_fastgpt_s_folder(
    one: OneApi, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one.broken = True
    started: list[Path] = []

    def up(path: Path, log: Path) -> None:
        started.append(path)
        path.with_name(".env").write_text(f"ONEAPI_ACCESS_TOKEN={oneapi.TOKEN}\n")
        one.broken = False

    monkeypatch.setattr("tasks.core.fastgpt.stack.up", up)
    use(monkeypatch, token="")
    monkeypatch.setenv("MODELWRIGHT_FASTGPT_DIR", str(tmp_path))
    settings.current.cache_clear()
    ship(project)
    assert started == [tmp_path / "docker-compose.yml"]
    assert (tmp_path / "config.json").read_text() == "{}\n"
    assert len(one.channels) == 1


def test_a_token_that_we_made_is_used_on_this_machine_only(
    one: OneApi, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = f"ONEAPI_ACCESS_TOKEN={oneapi.TOKEN}\nONEAPI_KEY={oneapi.KEY.removeprefix('sk-')}\n"
    (tmp_path / ".env").write_text(made)
    monkeypatch.setenv("MODELWRIGHT_FASTGPT_DIR", str(tmp_path))
    use(monkeypatch, token="")
    ship(project)
    assert "POST /v1/chat/completions" in one.lines("POST")
    use(monkeypatch, endpoint="http://gateway.example.com:3001")
    assert passwords.completed(settings.current()) == settings.current()
    use(monkeypatch, endpoint=one.url, token="their-own")
    assert passwords.completed(settings.current()).gateway_token == "their-own"


def test_user_and_password_do_as_well_as_a_token(
    one: OneApi, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, token="", user=oneapi.USER, password=oneapi.PASSWORD)
    ship(project)
    assert one.lines("POST")[0] == "POST /api/user/login"
    assert len(one.channels) == 1


@only("newapi")
def test_new_api_s_token_counts_with_and_without_its_user(
    there: NewApi, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    there.wants_user = False
    ship(project)
    there.wants_user = True
    use(monkeypatch, user="2")
    with pytest.raises(UserError, match="New-Api-User; set MODELWRIGHT_GATEWAY_TOKEN"):
        ship(project)


@pytest.mark.parametrize("models", [["theirs"], ["gpt-4", "m", "claude"]])
def test_a_channel_of_the_name_for_other_models_is_nobody_s_to_change(
    there: OneApi, project: Project, models: list[str]
) -> None:
    before = theirs(there, *models)
    said = rf"'m' \(1\) is there already and serves {', '.join(models)}; give the recipe another"
    with pytest.raises(UserError, match=said):
        ship(project)
    assert there.channels == [before]


def test_a_channel_made_by_hand_is_taken_over_and_given_back(
    there: OneApi, project: Project
) -> None:
    before = theirs(there, status=2)
    recipe = ship(project)
    assert there.channels[0]["base_url"] != before["base_url"]
    assert there.channels[0]["key"] == "sk-theirs"
    ship(project)
    assert unship(recipe) == ["channel 'm' put back as it was"]
    assert is_as_before(there, before)


def test_what_was_there_before_is_in_the_note_alone(there: OneApi, project: Project) -> None:
    theirs(there)
    ship(project)
    published = (paths.output("m", "gateway") / gateway.CHANNEL).read_text()
    assert "http://theirs" in paths.note("m", "gateway").read_text()
    assert "http://theirs" not in published


def test_a_channel_that_is_called_otherwise_now_leaves_none_behind(
    there: OneApi, project: Project
) -> None:
    ship(project)
    recipe = ship(project, RECIPE.replace("{}", "{name: other}"))
    assert [one["name"] for one in there.channels] == ["other"]
    assert unship(recipe) == ["channel 'other' removed"]


def test_another_gateway_is_another_matter(
    one: OneApi,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recipe = ship(project)
    other = OneApi()
    other.has(name="m", models="theirs")
    with other.running():
        use(monkeypatch, endpoint=other.url)
        with pytest.raises(UserError, match=f"the channel is in oneapi at {one.url}; set"):
            unship(recipe)
        with pytest.raises(UserError, match="is there already and serves theirs"):
            ship(project)
        other.channels.clear()
        ship(project)
    assert f"the channel in oneapi at {one.url} stays" in capsys.readouterr().out
    assert len(one.channels) == len(other.channels) == 1


def test_unship_takes_the_channel_away_and_nothing_else(there: OneApi, project: Project) -> None:
    there.has(name="m-other")
    recipe = ship(project)
    assert unship(recipe) == ["channel 'm' removed"]
    assert [one["name"] for one in there.channels] == ["m-other"]
    assert unship(recipe) == []


def test_without_a_result_only_what_bears_our_mark_is_taken_away(
    there: OneApi, project: Project
) -> None:
    there.has(name="m")
    recipe = project.recipe("m", RECIPE)
    assert gateway.undo(recipe, None) == []
    assert len(there.channels) == 1
    there.channels.clear()
    ship(project)
    shutil.rmtree(paths.output("m", "gateway"))
    assert gateway.undo(recipe, None) == ["channel 'm' removed"]


def forget_lock(project: Project) -> None:
    """Be another project's recipe of the same name."""
    (project.recipes / "m.lock").unlink()


def unmark(there: OneApi) -> None:
    """Have a channel bear the mark that a first release put there."""
    old: dict[str, Any] = {"other": "modelwright"}
    if isinstance(there, AIProxy):
        old = {"configs": {"modelwright": True}}
    there.channels[0].update(old)


def test_another_recipe_s_channel_is_nobody_s_to_change_or_to_take_away(
    there: OneApi, project: Project
) -> None:
    mine = ship(project)
    before = [dict(channel) for channel in there.channels]
    owner = identity.known(mine)
    shutil.rmtree(project.build)
    forget_lock(project)
    told = rf"belongs to another recipe; .* put `owner: {{id: {owner}}}` into its lock"
    with pytest.raises(UserError, match=told):
        ship(project)
    assert gateway.drifted(mine) == "channel 'm' is another recipe's"
    assert unship(mine) == []
    assert there.channels == before


@pytest.mark.parametrize("lost", ["note", "receipt"])
def test_unship_without_the_lock_says_so_and_forgets_nothing(
    there: OneApi, project: Project, lost: str
) -> None:
    recipe = ship(project)
    owner, lock = identity.known(recipe), project.recipes / "m.lock"
    kept = lock.read_text()
    note, receipt = paths.note("m", "gateway"), paths.manifest("m", "gateway")
    (note if lost == "note" else receipt).unlink()
    left = receipt if lost == "note" else note
    forget_lock(project)
    told = rf"'m' \(1\) stays, as it .*; if it is not this recipe's, delete {left}, or, where .*"
    with pytest.raises(UserError, match=rf"{told} put `owner: {{id: {owner}}}` into its lock"):
        unship(recipe)
    assert len(there.channels) == 1
    assert left.exists()
    lock.write_text(kept)
    assert unship(recipe) == ["channel 'm' removed"]


def test_a_renamed_channel_of_a_lost_lock_is_not_forgotten(there: OneApi, project: Project) -> None:
    ship(project)
    forget_lock(project)
    with pytest.raises(UserError, match=r"'m' \(1\) stays, as it bears another recipe's mark"):
        ship(project, RECIPE.replace("{}", "{name: other}"))
    assert [channel["name"] for channel in there.channels] == ["m"]


def test_a_copy_of_a_recipe_with_its_lock_takes_no_channel_over(
    there: OneApi, project: Project
) -> None:
    text = RECIPE.replace("{}", "{name: shared}")
    ship(project, text)
    shutil.copy(project.recipes / "m.lock", project.recipes / "copy.lock")
    before = [dict(channel) for channel in there.channels]
    copy = project.recipe("copy", text)
    told = r"'shared' \(1\) belongs to another recipe; give this one another `gateway.name`$"
    with pytest.raises(UserError, match=told):
        gateway.run(copy, project.build)
    assert gateway.undo(copy, None) == []
    assert there.channels == before


def test_a_fresh_clone_knows_its_channels_by_the_recipe_s_lock(
    there: OneApi, project: Project
) -> None:
    ship(project)
    shutil.rmtree(project.build)
    there.asked.clear()
    recipe = ship(project)
    assert not [line for line in there.lines("POST", "PUT") if "channel" in line]
    shutil.rmtree(project.build)
    assert unship(recipe) == ["channel 'm' removed"]


def test_a_mark_without_an_owner_is_noticed_and_gets_one(there: OneApi, project: Project) -> None:
    recipe = ship(project)
    good = [dict(channel) for channel in there.channels]
    unmark(there)
    assert gateway.drifted(recipe) == "channel 'm' has a mark without an owner"
    ship(project)
    assert there.channels == good
    unmark(there)
    assert unship(recipe) == ["channel 'm' removed"]


def test_a_mark_without_an_owner_that_nobody_noted_makes_no_channel_ours(
    there: OneApi, project: Project
) -> None:
    recipe = ship(project)
    unmark(there)
    shutil.rmtree(project.build)
    forget_lock(project)
    there.channels[0]["models"] = models_of(there, "theirs")
    with pytest.raises(UserError, match="serves theirs; give the recipe another"):
        ship(project)
    assert unship(recipe) == []
    assert len(there.channels) == 1


def test_a_trial_that_fails_leaves_somebody_s_channel_as_it_was(
    there: OneApi, server: ModelServer, project: Project
) -> None:
    before = theirs(there)
    server.model = "other"
    with pytest.raises(UserError, match="no model m"):
        ship(project)
    assert is_as_before(there, before)


def test_a_new_channel_whose_trial_fails_is_taken_away_again(
    there: OneApi, server: ModelServer, project: Project
) -> None:
    server.model = "other"
    with pytest.raises(UserError, match="no model m"):
        ship(project)
    assert there.channels == []
    assert not paths.note("m", "gateway").exists()
    server.model = SERVED
    assert unship(ship(project)) == ["channel 'm' removed"]


def test_a_gone_channel_is_noticed_and_made_again(there: OneApi, project: Project) -> None:
    recipe = ship(project)
    there.channels.clear()
    assert gateway.drifted(recipe) == "channel 'm' is gone"
    ship(project)
    assert len(there.channels) == 1
    assert unship(recipe) == ["channel 'm' removed"]


def test_a_trial_that_is_stopped_leaves_somebody_s_channel_as_it_was(
    there: OneApi, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = theirs(there)
    with monkeypatch.context() as patch:
        patch.setattr("tasks.core.gateways.upkeep.attempt", stop)
        with pytest.raises(KeyboardInterrupt):
            ship(project)
    assert is_as_before(there, before)
    there.channels[0]["base_url"] = "http://changed-since"
    recipe = ship(project)
    unship(recipe)
    assert there.channels[0]["base_url"] == "http://changed-since"


def test_a_run_that_was_killed_in_its_trial_does_not_lose_what_was_before(
    there: OneApi, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = theirs(there)
    with monkeypatch.context() as patch:
        patch.setattr("tasks.core.gateways.upkeep.attempt", stop)
        patch.setattr("tasks.core.gateways.upkeep.roll_back", stop)
        with pytest.raises(KeyboardInterrupt):
            ship(project)
    assert there.channels[0]["base_url"] != before["base_url"]
    assert unship(ship(project)) == ["channel 'm' put back as it was"]
    assert is_as_before(there, before)


def test_a_trial_that_fails_leaves_a_channel_of_ours_as_it_worked(
    there: OneApi, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = ship(project)
    before = dict(there.channels[0])
    use(monkeypatch, upstream="http://127.0.0.1:9")
    with pytest.raises(UserError, match="the gateway reaches the model at http://127"):
        ship(project)
    assert there.channels == [before]
    assert unship(recipe) == ["channel 'm' removed"]


@pytest.mark.parametrize(
    ("is_theirs", "told", "undone"),
    [
        (False, "not taken away again", "channel 'm' removed"),
        (True, "not put back", "channel 'm' put back as it was"),
    ],
)
def test_a_channel_that_cannot_be_as_before_is_told_and_remembered(
    one: OneApi,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_theirs: bool,
    told: str,
    undone: str,
) -> None:
    before = theirs(one) if is_theirs else {}

    def fails(*_: Any) -> None:
        one.broken = True
        raise UserError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr("tasks.core.gateways.upkeep.attempt", fails)
        with pytest.raises(UserError, match="no answer"):
            ship(project)
    assert f"channel 'm' is {told}: One API at" in capsys.readouterr().out
    assert paths.note("m", "gateway").exists()
    one.broken = False
    assert gateway.undo(project.recipe("m", RECIPE), None) == [undone]
    assert is_as_before(one, before)


def test_a_receipt_of_ours_makes_no_channel_of_others_ours(there: OneApi, project: Project) -> None:
    ship(project)
    there.channels.clear()
    before = theirs(there, "theirs")
    with pytest.raises(UserError, match="serves theirs; give the recipe another"):
        ship(project)
    assert there.channels == [before]


def test_models_that_somebody_gave_their_channel_since_stay(
    there: OneApi, project: Project
) -> None:
    theirs(there)
    ship(project)
    there.channels[0]["models"] = models_of(there, "m", "gpt-4")
    with pytest.raises(UserError, match="serves m, gpt-4; give the recipe another"):
        ship(project)


def test_a_channel_that_was_taken_over_may_get_another_model(
    there: OneApi, project: Project
) -> None:
    before = theirs(there, priority=7)
    ship(project)
    recipe = ship(project, RECIPE.replace("{}", "{model: other, priority: 3}"))
    assert there.models(there.channels[0]) == ["other"]
    assert unship(recipe) == ["channel 'm' put back as it was"]
    assert is_as_before(there, before)


def test_a_key_of_somebody_s_channel_is_never_overwritten(
    there: OneApi, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = theirs(there)
    use(monkeypatch, upstream_key="upstream-of-a-test")
    with pytest.raises(UserError, match=r"'m' \(1\) is somebody's, .* its own could not be put"):
        ship(project)
    assert there.channels == [before]


def test_somebody_s_channel_at_another_gateway_is_not_forgotten(
    one: OneApi, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = theirs(one)
    recipe, other = ship(project), OneApi()
    with other.running():
        use(monkeypatch, endpoint=other.url)
        with pytest.raises(UserError, match=rf"is in oneapi at {one.url}; set .* delete /.*\.json"):
            ship(project)
        assert other.channels == []
    use(monkeypatch, endpoint=one.url)
    assert unship(recipe) == ["channel 'm' put back as it was"]
    assert is_as_before(one, before)


def test_two_channels_of_one_name_are_for_people_to_sort_out(
    there: OneApi, project: Project
) -> None:
    there.has(name="m")
    there.has(name="m")
    with pytest.raises(UserError, match="channels 1 and 2 are both called 'm'; rename one"):
        ship(project)


def test_a_yes_that_kept_nothing_is_a_failure(
    one: OneApi, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OneApi, "has", lambda self, **values: values)
    with pytest.raises(UserError, match="took 'm' and has no channel"):
        ship(project)


def test_an_empty_key_is_never_sent(one: OneApi) -> None:
    """Such a channel One API takes, says yes to, and drops."""
    one.add({"name": "m", "key": ""})
    assert one.channels == []


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"token": "wrong-of-a-test"},
            "access token 无效; set MODELWRIGHT_GATEWAY_TOKEN to an adm",
        ),
        ({"token": ""}, "no credentials; set MODELWRIGHT_GATEWAY_TOKEN"),
        ({"token": "", "user": "root", "password": "no"}, "用户名或密码错误.*_GATEWAY_PASSWORD"),
        ({"endpoint": ""}, "MODELWRIGHT_GATEWAY_ENDPOINT is not set; say where"),
        ({"endpoint": "127.0.0.1:3001"}, "MODELWRIGHT_GATEWAY_ENDPOINT: no address of a server"),
        ({"endpoint": "http://["}, "MODELWRIGHT_GATEWAY_ENDPOINT: no address of a server"),
        ({"upstream": ""}, "MODELWRIGHT_GATEWAY_UPSTREAM is not set; say where the gateway"),
        (
            {"upstream": "http://127.0.0.1:9"},
            "do request failed.*\nthe gateway reaches .*localhost",
        ),
    ],
)
def test_a_wrong_setting_is_one_clear_error(
    one: OneApi,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    values: dict[str, str],
    told: str,
) -> None:
    use(monkeypatch, **values)
    with pytest.raises(UserError, match=told) as failure:
        ship(project)
    assert "wrong-of-a-test" not in str(failure.value)
    assert not paths.output("m", "gateway").exists()


def test_a_gateway_that_is_down_or_something_else_is_one_clear_error(
    one: OneApi, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "START", 0.0)
    recipe = ship(project)
    one.broken = True
    with pytest.raises(UserError, match=r"One API at http.* 502, an answer that is not JSON"):
        ship(project)
    with pytest.raises(UserError, match="an answer that is not JSON"):
        unship(recipe)
    use(monkeypatch, endpoint="http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"no answer \(.*refused.*is it up, and is MODELWRIGHT_GA"):
        ship(project)
    assert "no answer" in gateway.drifted(recipe)


@only("aiproxy")
def test_ai_proxy_without_a_configuration_of_the_model_says_what_to_do(
    there: AIProxy, project: Project
) -> None:
    there.wants_config = True
    with pytest.raises(UserError, match="DISABLE_MODEL_CONFIG=true"):
        ship(project)


def test_the_channel_is_in_the_key_and_no_secret_is(
    one: OneApi, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = gateway.key(project.recipe("m", RECIPE))
    assert gateway.key(project.recipe("m", RECIPE + "evaluate: {prompts: p}\n")) == fresh
    assert gateway.key(project.recipe("m", RECIPE.replace("{}", "{group: vip}"))) != fresh
    use(monkeypatch, token="another-of-a-test", upstream_key="upstream-of-a-test")
    assert gateway.key(project.recipe("m", RECIPE)) == fresh
    assert not any(secret in json.dumps(fresh) for secret in SECRETS)


def test_ship_is_told_which_setting_is_missing(
    one: OneApi, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = project.recipe("m", RECIPE)
    assert gateway.lacks(recipe) == ""
    use(monkeypatch, endpoint="")
    assert gateway.lacks(recipe) == "MODELWRIGHT_GATEWAY_ENDPOINT"


def test_it_comes_after_serve_where_the_recipe_serves(project: Project) -> None:
    assert gateway.task(project.recipe("m", RECIPE))["file_dep"] == []
    recipe = project.recipe("m", RECIPE + "serve: {name: llama-3-instruct}\n")
    assert gateway.task(recipe)["file_dep"] == [Path(paths.manifest("m", "serve"))]
    assert gateway.model(recipe) == "llama-3-instruct"
