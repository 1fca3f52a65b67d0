"""`doit doctor`: what works was tried, what does not says what to do, what lacks is no fault."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tasks.core import doctor, settings
from tasks.core.commands import terminal
from tasks.core.doctor import command, machine
from tests.conftest import Project, doit
from tests.services import aiproxy, fastgpt, oneapi
from tests.services.aiproxy import AIProxy
from tests.services.fastgpt import FastGPT
from tests.services.jsonserver import Reply, Request, Service
from tests.services.oneapi import OneApi


class Models(Service):
    """A model's server that wants a key."""

    def reply(self, request: Request) -> Reply:
        if request.headers.get("authorization") != "Bearer key-of-a-test":
            return Reply({"detail": "Not authenticated"}, 401)
        return Reply({"data": [{"id": "tiny-agent"}]})


@pytest.fixture
def bare(project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A machine without programs."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return project


def use(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        monkeypatch.setenv(f"MODELWRIGHT_{name.upper()}", value)
    settings.current.cache_clear()


def program(tmp_path: Path, name: str, text: str) -> None:
    """Put a program on the bare machine."""
    path = tmp_path / "bin" / name
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(0o755)


def found() -> dict[str, doctor.Finding]:
    return {one.name: one for one in doctor.examine()}


def test_a_bare_machine_has_no_fault(bare: Project) -> None:
    (bare.recipes / "m.yaml").write_text("base: {hub: gpt2}\n")
    seen = found()
    assert [one.name for one in seen.values() if one.state == doctor.WRONG] == []
    assert seen["recipes"].what == "1, all sound: m"
    nothing = ("GPUs", "Docker", "registry", "S3", "Xinference", "gateway", "FastGPT", "Slurm")
    assert {seen[name].state for name in nothing} == {doctor.NONE}
    assert "writing works" in seen["disk"].what


def test_every_check_says_what_is_missing_or_always_finds_something(bare: Project) -> None:
    for name, (_, missing) in doctor.CHECKS.items():
        assert missing or name in ("Python", "settings", "disk", "store", "memory")


def test_services_that_work_are_told(
    bare: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, site, served = OneApi(), FastGPT("4.15.1"), Models()
    with gate.running(), site.running(), served.running():
        use(monkeypatch, gateway_endpoint=gate.url, gateway_token=oneapi.TOKEN)
        use(monkeypatch, fastgpt_endpoint=site.url, fastgpt_password=fastgpt.PASSWORD)
        use(monkeypatch, xinference_endpoint=served.url, xinference_api_key="key-of-a-test")
        seen = found()
    assert seen["gateway"].state == seen["FastGPT"].state == seen["Xinference"].state == "ok"
    assert seen["FastGPT"].what.endswith("keeps its models in its database")
    assert seen["Xinference"].what.endswith("serves tiny-agent")
    assert gate.channels == []


def test_services_that_refuse_say_what_to_do(
    bare: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, site, served = AIProxy(), FastGPT("4.15.1"), Models()
    with gate.running(), site.running(), served.running():
        use(monkeypatch, gateway_kind="aiproxy", gateway_endpoint=gate.url, gateway_token="wrong-1")
        use(monkeypatch, fastgpt_endpoint=site.url, fastgpt_password="wrong-2")
        use(monkeypatch, xinference_endpoint=served.url, xinference_api_key="wrong-3")
        use(monkeypatch, registry="127.0.0.1:9/x", s3_endpoint="127.0.0.1", launcher="slurm")
        seen = found()
    told = {
        "gateway": "set MODELWRIGHT_GATEWAY_TOKEN to the ADMIN_KEY",
        "FastGPT": "is MODELWRIGHT_FASTGPT_PASSWORD the password",
        "Xinference": "is MODELWRIGHT_XINFERENCE_API_KEY right?",
        "registry": "is it up, and is MODELWRIGHT_REGISTRY right?",
        "S3": "with its scheme",
        "Slurm": "install its client",
    }
    for name, text in told.items():
        assert (seen[name].state, text in seen[name].what) == (doctor.WRONG, True), seen[name]
    assert "wrong-" not in " ".join(one.what for one in seen.values())


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"store_s3": "s3://team/x"}, "MODELWRIGHT_S3_ENDPOINT is not set; say which"),
        ({"store": "/proc/none"}, "MODELWRIGHT_STORE: /proc/none cannot keep results of"),
    ],
)
def test_a_store_that_keeps_nothing_is_told(
    bare: Project, monkeypatch: pytest.MonkeyPatch, values: dict[str, str], told: str
) -> None:
    use(monkeypatch, **values)
    seen = found()["store"]
    assert (seen.state, told in seen.what) == (doctor.WRONG, True), seen


def test_a_store_that_works_was_tried_and_nothing_is_left(bare: Project) -> None:
    seen = found()["store"]
    assert (seen.state, "results are kept in" in seen.what) == (doctor.GOOD, True), seen
    assert [path for path in bare.build.rglob("*") if path.is_file()] == []


def test_programs_are_run_not_only_found(
    bare: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "nvidia-smi", "print('NVIDIA H200, 143771, 143000, 575.1')")
    program(tmp_path, "sinfo", "print('debug* 2 idle')")
    seen = found()
    assert seen["GPUs"].what == "NVIDIA H200 (143000 of 143771 MiB free); driver 575.1"
    assert seen["Slurm"].what == "debug*: 2 idle"
    program(tmp_path, "nvidia-smi", "raise SystemExit('no driver')")
    program(tmp_path, "sinfo", "import time; time.sleep(60)")
    use(monkeypatch, launcher="slurm")
    monkeypatch.setattr(machine, "PATIENCE", 0.3)
    seen = found()
    assert seen["GPUs"].what.startswith("nvidia-smi fails (1): no driver; the driver does not")
    assert "sinfo says nothing for 0 s; does slurmctld run" in seen["Slurm"].what


def test_a_program_that_nothing_asks_for_is_no_fault(
    bare: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "docker", "raise SystemExit('no daemon')")
    program(tmp_path, "sinfo", "raise SystemExit('no controller')")
    seen = found()
    for name, fault in (("Docker", "no daemon"), ("Slurm", "no controller")):
        assert seen[name].state == doctor.NONE
        assert seen[name].what.startswith("nothing asks for it here; ")
        assert fault in seen[name].what
    image = "base: {hub: gpt2}\nimage: {base: scratch, repository: a, builder: docker}\n"
    (bare.recipes / "m.yaml").write_text(image)
    use(monkeypatch, launcher="slurm")
    seen = found()
    assert seen["Docker"].state == seen["Slurm"].state == doctor.WRONG
    (bare.recipes / "m.yaml").unlink()
    use(monkeypatch, serve_run="docker")
    assert found()["Docker"].state == doctor.WRONG


def test_a_broken_recipe_or_setting_is_a_finding_and_hides_no_other(
    bare: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "docker", "raise SystemExit('no daemon')")
    (bare.recipes / "m.yaml").write_text("base: [\n")
    seen = found()
    assert (seen["recipes"].state, seen["Docker"].state) == (doctor.WRONG, doctor.NONE)
    use(monkeypatch, registrie="x")
    seen = found()
    assert "MODELWRIGHT_REGISTRIE: unknown setting" in seen["settings"].what
    assert seen["memory"].state == doctor.GOOD


def test_a_fault_of_ours_hides_no_other(bare: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks() -> str:
        raise KeyError("x")

    monkeypatch.setattr(doctor, "CHECKS", {"a": (breaks, ""), "b": (lambda: "fine", "")})
    assert [one.state for one in doctor.examine()] == ["wrong", "ok"]


def test_lines_fit_eighty_columns(bare: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "columns", lambda: 80)
    use(monkeypatch, gateway_endpoint="http://127.0.0.1:9")
    lines = command.lines(doctor.examine())
    # A word that is longer than a line, such as a test's folder, stays whole.
    assert all(terminal.width(line) <= 80 for line in lines if str(bare.build) not in line)
    assert lines[-1] == "1 wrong"


def test_the_command_ends_with_one_where_something_is_wrong(project: Project) -> None:
    done = doit(
        "doctor",
        "--json",
        build=project.build,
        recipes=project.recipes,
        MODELWRIGHT_GATEWAY_ENDPOINT="http://127.0.0.1:9",
    )
    seen = {one["name"]: one for one in json.loads(done.stdout)}
    assert done.returncode == 1
    assert seen["gateway"]["state"] == "wrong"
    assert list(seen) == list(doctor.CHECKS)
    assert aiproxy.ADMIN_KEY not in done.stdout
