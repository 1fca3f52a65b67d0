"""All that leaves this machine, at the command line: brought, left alone, taken back."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tasks.core import paths
from tests.conftest import Project, doit
from tests.services import fastgpt, oneapi, xinference
from tests.services.fastgpt import FastGPT
from tests.services.oneapi import OneApi
from tests.services.xinference import Xinference

RECIPE = """
base: {path: base}
serve: {name: m}
gateway: {}
app: {fastgpt: {maxContext: 512, maxResponse: 512, quoteMaxToken: 512}}
"""
API_KEY, PASSWORD = "xf-of-a-test", "xinference-of-a-test"
SECRETS = (API_KEY, PASSWORD, oneapi.PASSWORD, fastgpt.PASSWORD)


@dataclass
class Town:
    """An Xinference, a One API and a FastGPT, each with a login, and doit."""

    project: Project
    served: Xinference
    gateway: OneApi
    app: FastGPT

    def doit(self, *words: str, status: int = 0) -> str:
        """Run doit; return what it prints."""
        where = {
            "XINFERENCE_ENDPOINT": self.served.url,
            "XINFERENCE_USER": "admin",
            "XINFERENCE_PASSWORD": PASSWORD,
            "XINFERENCE_API_KEY": API_KEY,
            "GATEWAY_ENDPOINT": self.gateway.url,
            "GATEWAY_USER": oneapi.USER,
            "GATEWAY_PASSWORD": oneapi.PASSWORD,
            "FASTGPT_ENDPOINT": self.app.url,
            "FASTGPT_PASSWORD": fastgpt.PASSWORD,
        }
        options = {f"MODELWRIGHT_{name}": value for name, value in where.items()}
        build, recipes = self.project.build, self.project.recipes
        done = doit(*words, build=build, recipes=recipes, MODELWRIGHT_DEFAULT="m", **options)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def state(self) -> str:
        """Return all that is there."""
        found: list[Any] = [self.served.registered, self.served.running]
        return json.dumps([*found, self.gateway.channels, self.app.database])

    def changes(self) -> list[str]:
        """Return the requests since the last time that may change something."""
        asked = [line for line in self.served.did() if line != "POST /token"]
        for service in (self.gateway, self.app):
            lines = service.lines("POST", "PUT", "DELETE")
            asked += [line for line in lines if "login" not in line]
            service.asked.clear()
        return asked


@pytest.fixture
def town(project: Project) -> Iterator[Town]:
    """The servers, with things of others in them, and a model to ship."""
    place = project.recipes / "m/base"
    place.mkdir(parents=True)
    for path in (paths.ROOT / "recipes/tiny-agent/base").iterdir():
        (place / path.name).symlink_to(path)
    (project.recipes / "m.yaml").write_text(RECIPE)
    gateway, app = OneApi(), FastGPT("4.15.1")
    gateway.has(name="theirs", models="theirs")
    app.keep("theirs", {"type": "llm", "name": "theirs"})
    with gateway.running(), app.running(), xinference.running() as served:
        served.wants_login, served.users, served.keys = True, {"admin": PASSWORD}, {API_KEY}
        served.registered["theirs"] = {"model_name": "theirs"}
        yield Town(project, served, gateway, app)


def test_a_model_is_shipped_left_alone_put_right_and_taken_back(town: Town) -> None:
    others = town.state()
    town.doit("ship:m")
    assert list(town.served.running) == ["m"]
    assert [one["name"] for one in town.gateway.channels] == ["theirs", "m"]
    assert [one["model"] for one in town.app.database] == ["theirs", "m"]
    shipped = town.state()
    assert len(town.changes()) == 4

    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    said = town.doit("ship:m")
    # On a busy machine the clock says little.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 3
    assert all(f"-- {stage}:m" in said for stage in ("serve", "gateway", "app"))
    assert (town.state(), town.changes()) == (shipped, [])

    # Only what was changed there is done again.
    town.gateway.channels[1]["status"] = 3
    plan = town.doit("plan", "ship:m", status=1)
    assert "channel 'm' has another status" in plan
    town.doit("ship:m")
    assert town.state() == shipped
    assert town.changes() == ["PUT /api/channel/"]

    said = town.doit("unship:m")
    assert town.state() == others
    assert not paths.output("m", "serve").exists()
    left: list[Path] = [path for path in town.project.build.rglob("*") if path.is_file()]
    told = said + plan + "".join(path.read_text(errors="replace") for path in left)
    assert not any(secret in told for secret in SECRETS)
