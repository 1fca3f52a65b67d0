"""Settings: where they come from, which wins, what is refused."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.core import forms, gateways, settings
from tasks.core.engine import pools, room
from tasks.core.errors import LoadError
from tasks.core.settings import Settings
from tests.conftest import doit


def read(
    folder: Path, environ: dict[str, str] | None = None, dotenv: str = "", yaml: str = ""
) -> Settings:
    """Read settings from made-up places."""
    (folder / ".env").write_text(dotenv, encoding="utf-8")
    (folder / "settings.yaml").write_text(yaml, encoding="utf-8")
    return settings.read(environ or {}, folder / ".env", folder / "settings.yaml")


def test_nothing_is_needed(tmp_path: Path) -> None:
    assert settings.read({}, tmp_path / ".env", tmp_path / "settings.yaml") == Settings()


@pytest.mark.parametrize(
    ("environ", "dotenv", "yaml", "build"),
    [
        ({}, "", "build: y", "y"),
        ({}, "MODELWRIGHT_BUILD=d", "build: y", "d"),
        ({"MODELWRIGHT_BUILD": "e"}, "MODELWRIGHT_BUILD=d", "build: y", "e"),
        ({"MODELWRIGHT_BUILD": ""}, "", "", "build"),
        ({"BUILD": "e", "XMODELWRIGHT_BUILD": "e"}, "BUILD=d", "", "build"),
    ],
)
def test_the_environment_wins_over_dotenv_over_yaml(
    tmp_path: Path, environ: dict[str, str], dotenv: str, yaml: str, build: str
) -> None:
    assert read(tmp_path, environ, dotenv, yaml).build == build


@pytest.mark.parametrize("yaml", ["toolchain_xtuner: /py", "toolchain: {xtuner: /py}"])
def test_yaml_may_be_flat_or_nested(tmp_path: Path, yaml: str) -> None:
    assert read(tmp_path, yaml=yaml).toolchain_xtuner == "/py"


@pytest.mark.parametrize(
    "line", ["MODELWRIGHT_BUILD=b", " MODELWRIGHT_BUILD = b ", "export MODELWRIGHT_BUILD='b'"]
)
def test_dotenv_is_read_as_shells_write_it(tmp_path: Path, line: str) -> None:
    assert read(tmp_path, dotenv=f"# a comment\nOTHER=1\n{line}\n").build == "b"


@pytest.mark.parametrize(
    ("environ", "dotenv", "yaml", "said"),
    [
        ({"MODELWRIGHT_BIULD": "x"}, "", "", "MODELWRIGHT_BIULD: unknown setting, perhaps you"),
        ({}, "\nMODELWRIGHT_BIULD=x", "", ".env:2: MODELWRIGHT_BIULD: unknown setting"),
        ({}, "", "biuld: x", "settings.yaml:1: biuld: unknown setting, perhaps you meant 'build'"),
        ({}, "", "- build", "settings.yaml: expected `name: value` lines"),
        ({}, "", "build: x\nbuild: y", "settings.yaml:2: build: given twice"),
    ],
)
def test_a_name_that_is_no_setting_is_refused(
    tmp_path: Path, environ: dict[str, str], dotenv: str, yaml: str, said: str
) -> None:
    with pytest.raises(LoadError) as caught:
        read(tmp_path, environ, dotenv, yaml)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "bad", "good", "said"),
    [
        ("torch", "rocm", "cpu", "should be auto, cpu or cuda"),
        ("force", "yes", "1", "should be 0 or 1"),
        ("pools_gpu", "-2", "0", "should be a number of devices"),
        ("pools_variable", "GPUS", "HIP_VISIBLE_DEVICES", "should be CUDA_VISIBLE_DEVICES, HIP_"),
        ("launcher", "kubernetes", "slurm", "should be local, torchrun or slurm"),
        ("rendezvous_port", "70000", "65535", "should be a port"),
        ("node_rank", "x", "3", "should be the number of a node"),
        ("store_limit", "lots", "200GB", "should be a size, such as 200GB"),
        ("store_s3", "team/x", "s3://team", "should be s3://bucket/prefix"),
        ("gateway_kind", "onepai", "newapi", "should be oneapi, newapi or aiproxy"),
        ("serve_run", "podman", "docker", "should be local or docker"),
        ("serve_port", "0", "8000", "should be a port"),
        ("serve_timeout", "soon", "0.5", "should be a number of seconds"),
    ],
)
def test_a_value_that_cannot_be_one_is_refused_when_it_is_read(
    tmp_path: Path, name: str, bad: str, good: str, said: str
) -> None:
    variable = f"MODELWRIGHT_{name.upper()}"
    with pytest.raises(LoadError) as caught:
        read(tmp_path, {variable: bad})
    assert str(caught.value).startswith(f"{variable}: '{bad}' {said}")
    assert getattr(read(tmp_path, {variable: good}), name) == good
    assert read(tmp_path, {variable: ""}) == Settings()


def test_the_choices_are_those_that_the_code_has() -> None:
    assert re.split(", | or ", forms.FORMS["gateway_kind"][1]) == list(gateways.KINDS)
    assert re.split(", | or ", forms.FORMS["pools_variable"][1]) == list(pools.VARIABLES)
    assert not [unit for unit in room.UNITS if forms.wanted("store_limit", f"1{unit}")]
    assert not [name for name in forms.FORMS if forms.wanted(name, getattr(Settings(), name))]


def test_all_unknown_names_are_said_in_one_go(tmp_path: Path) -> None:
    with pytest.raises(LoadError) as caught:
        read(tmp_path, {"MODELWRIGHT_A": "1"}, "MODELWRIGHT_B=1", "c: 1")
    assert len(str(caught.value).splitlines()) == 3


def test_a_dotenv_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\n")
    with pytest.raises(LoadError, match="byte 2: not UTF-8"):
        settings.read({}, tmp_path / ".env", tmp_path / "none")


def test_a_setting_knows_where_it_was_given(tmp_path: Path) -> None:
    found = read(tmp_path, {"MODELWRIGHT_TORCH": "cpu"}, "\nMODELWRIGHT_BUILD=b", "default: m")
    assert found.where("torch") == "MODELWRIGHT_TORCH"
    assert found.where("build") == f"{tmp_path}/.env:2: MODELWRIGHT_BUILD"
    assert found.where("default") == f"{tmp_path}/settings.yaml:1: default"
    assert found.where("recipes") == "default of MODELWRIGHT_RECIPES"


def test_a_wrong_setting_ends_doit_with_one_line(tmp_path: Path) -> None:
    done = doit("list", build=tmp_path, MODELWRIGHT_BIULD="x")
    assert done.returncode == 3
    assert done.stderr.strip() == (
        "ERROR: MODELWRIGHT_BIULD: unknown setting, perhaps you meant 'build'?"
    )


ADDRESSES = {
    "registry": "user:p4ss@registry.local",
    "registry_insecure": "one.local,user:p4ss@two.local",
    "s3_endpoint": "https://user:p4ss@s3.local",
    "store_s3": "s3://key:p4/ss@team/results",
    "gateway_endpoint": "http://root:p4ss@gate.local",
    "gateway_upstream": "http://root:p4ss@model.local",
    "vllm_endpoint": "http://p4ss@model.local",
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_a_password_in_an_address_is_refused_and_not_said(tmp_path: Path, name: str) -> None:
    with pytest.raises(LoadError) as caught:
        read(tmp_path, {f"MODELWRIGHT_{name.upper()}": ADDRESSES[name]})
    said = str(caught.value)
    assert said.startswith(f"MODELWRIGHT_{name.upper()}: take user and password out of the address")
    assert "p4" not in said


@pytest.mark.parametrize("command", ["list", "doctor"])
def test_no_command_says_a_password_that_is_in_an_address(tmp_path: Path, command: str) -> None:
    done = doit(command, build=tmp_path, MODELWRIGHT_REGISTRY=ADDRESSES["registry"])
    assert "take user and password out" in done.stdout + done.stderr
    assert "p4ss" not in done.stdout + done.stderr


@pytest.mark.parametrize("value", ["*p4ss", "!p4ss", "!!int p4ss", "{p4ss: [", "'p4ss"])
def test_a_settings_file_that_is_no_yaml_says_nothing_of_its_values(
    tmp_path: Path, value: str
) -> None:
    with pytest.raises(LoadError) as caught:
        read(tmp_path, yaml=f"build: x\ns3_secret_key: {value}\n")
    assert "settings.yaml:" in str(caught.value)
    assert "p4ss" not in str(caught.value)


def test_the_python_that_doitw_was_given_disturbs_nobody(tmp_path: Path) -> None:
    assert doit("list", build=tmp_path, MODELWRIGHT_PYTHON="python3").returncode == 0


@pytest.mark.parametrize("named", ["/no/such/python", "false"])
def test_a_python_that_doitw_cannot_use_is_told(tmp_path: Path, named: str) -> None:
    shutil.copy("doitw", tmp_path)
    environ = {"PATH": os.environ["PATH"], "MODELWRIGHT_PYTHON": named}
    done = subprocess.run([tmp_path / "doitw"], env=environ, capture_output=True, text=True)
    assert done.returncode == 3
    assert f"MODELWRIGHT_PYTHON: {named} is no Python 3.10 or later; name one" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_a_checkout_has_one_environment_by_whatever_link_it_is_reached(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    (real / ".venv/bin").mkdir(parents=True)
    link.symlink_to(real)
    shutil.copy("doitw", real)
    (real / ".venv/made").write_text(f"{real}\n")
    for place in (real, real / ".venv"):
        (place / "requirements.txt").touch()
    (real / ".venv/bin/python").write_text("#!/bin/sh\necho ran\n")
    (real / ".venv/bin/python").chmod(0o755)
    environ = {"PATH": os.environ["PATH"], "MODELWRIGHT_PYTHON": "false"}
    done = subprocess.run([link / "doitw"], env=environ, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("ran\n", "")


# A Python that makes an environment without pip, whose requirements are there already.
PYTHON = """#!/bin/sh
case $* in
  *venv*) {python} -m venv --without-pip .venv && touch .venv/requirements.txt ;;
  *) exec {python} "$@" ;;
esac
"""


def test_a_checkout_may_have_any_name_in_any_locale(tmp_path: Path) -> None:
    place, python = tmp_path / "模型 é'\"", tmp_path / "python"
    program = place / "tasks/core/engine/untouched.py"
    program.parent.mkdir(parents=True)
    shown = "print(os.getcwd() in sys.path, os.environ['DOITW_FROM'])"
    program.write_text(f"import os, site, sys\nsite.main()\n{shown}\n")
    (place / "requirements.txt").touch()
    shutil.copy("doitw", place)
    python.write_text(PYTHON.format(python=sys.executable))
    python.chmod(0o755)
    environ = {"PATH": os.environ["PATH"], "MODELWRIGHT_PYTHON": str(python), "LC_ALL": "C"}
    for _ in "made", "there":
        done = subprocess.run(
            [place / "doitw"], env=environ, cwd=tmp_path, capture_output=True, text=True
        )
        assert (done.stdout, done.returncode) == (f"True {tmp_path}\n", 0), done.stderr


def test_the_page_on_settings_has_every_one() -> None:
    page = Path("docs/settings.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| MODELWRIGHT_(\w+) \|", page, re.MULTILINE)

    assert sorted(name.lower() for name in told) == sorted(settings.NAMES)


def test_what_is_secret_is_known_as_such_and_not_shown(tmp_path: Path) -> None:
    found = read(tmp_path, {"MODELWRIGHT_S3_SECRET_KEY": "hidden", "MODELWRIGHT_BUILD": "shown"})
    assert found.secrets == ["hidden"]
    assert "hidden" not in repr(found)
