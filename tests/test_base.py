"""base: a local folder is judged and linked, or refused with one clear message."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tasks import base
from tasks.core import recipe
from tasks.core.engine import stage
from tests.conftest import Project, doit

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n"
TINY = Path("recipes/tiny-agent/base").absolute()


@pytest.fixture
def model(tmp_path: Path, project: Project) -> Path:
    """Return a copy of the tiny model that the recipe m starts from."""
    folder = tmp_path / "model"
    shutil.copytree(TINY, folder)
    (project.recipes / "m.yaml").write_text(f"base: {{path: {folder}}}\n")
    return folder


def build(project: Project, task: str = "base:m") -> tuple[int, str, str]:
    """Run doit for real; return exit status, output and what went wrong."""
    done = doit(task, build=project.build, recipes=project.recipes)
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr.strip()


def refused(project: Project) -> str:
    """Return the one message that refuses the base; nothing may be left behind."""
    failed = stage.act("base", base, recipe.read(project.recipes / "m.yaml"))
    assert failed is not None
    assert not [path for path in (project.build / "m").iterdir() if path.name != "locks"]
    return str(failed.get_msg()).strip()


def test_doit_says_of_every_broken_base_what_is_wrong(project: Project, tmp_path: Path) -> None:
    """In one run: each with exit status, one message, and nothing half-made left behind."""
    breaks: dict[str, Callable[[Path], object]] = {
        "no-config": lambda folder: (folder / "config.json").unlink(),
        "no-folder": shutil.rmtree,
        "no-weights": lambda folder: (folder / "model.safetensors").unlink(),
        "pointer": lambda folder: (folder / "model.safetensors").write_bytes(POINTER),
        "truncated": lambda folder: os.truncate(folder / "model.safetensors", 1000),
    }
    for name, harm in breaks.items():
        folder = tmp_path / name
        shutil.copytree(TINY, folder)
        harm(folder)
        (project.recipes / f"{name}.yaml").write_text(f"base: {{path: {folder}}}\n")
    named = [f"base:{name}" for name in sorted(breaks)]
    done = doit("run", "--continue", *named, build=project.build, recipes=project.recipes)
    said = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert len(said) == len(breaks)
    for name, line in zip(sorted(breaks), said, strict=True):
        assert line.startswith(f"ERROR: base:{name}: ")
        assert str(tmp_path / name) in line
    assert not list(project.build.glob("*/base*"))
    assert not list(project.build.glob("*/.base*"))


def test_a_local_model_is_linked_and_told(project: Project, model: Path) -> None:
    status, said, _ = build(project)
    assert status == 0
    assert "architecture LlamaForCausalLM" in said
    place = project.build / "m/base"
    assert (place / "model.safetensors").readlink() == model / "model.safetensors"
    receipt = json.loads((place / "manifest.json").read_text())
    assert receipt["facts"]["revision"] == "local"
    assert str(model.parent) not in (place / "manifest.json").read_text()


def test_the_same_model_elsewhere_has_the_same_manifest(project: Project, model: Path) -> None:
    build(project)
    first = (project.build / "m/base/manifest.json").read_bytes()
    moved = model.rename(model.with_name("moved"))
    (project.recipes / "m.yaml").write_text(f"base: {{path: {moved}}}\n")
    status, _, _ = build(project)
    assert status == 0
    assert (project.build / "m/base/manifest.json").read_bytes() == first
    assert (project.build / "m/base/config.json").is_file()


def test_a_changed_file_of_the_model_is_noticed(project: Project, model: Path) -> None:
    build(project)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "rope_theta": 1}))
    assert build(project)[1].startswith(".  base:m")
    assert build(project)[1].startswith("-- base:m")


def test_a_folder_that_is_not_there_is_named(project: Project, model: Path) -> None:
    shutil.rmtree(model)
    assert refused(project) == (
        f"{project.recipes}/m.yaml: base.path: no folder {model}; correct the path"
    )


def test_a_folder_without_config_is_refused(project: Project, model: Path) -> None:
    (model / "config.json").unlink()
    assert refused(project).startswith(f"{model}: no config.json; ")


def test_git_lfs_pointers_are_refused(project: Project, model: Path) -> None:
    (model / "model.safetensors").write_bytes(POINTER)
    said = refused(project)
    assert said.startswith(f"{model}/model.safetensors: a Git-LFS pointer")
    assert "git lfs pull" in said


def test_truncated_weights_are_refused(project: Project, model: Path) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert refused(project).startswith(f"{path}: byte {path.stat().st_size}: ")


def test_a_broken_header_is_refused(project: Project, model: Path) -> None:
    path = model / "model.safetensors"
    raw = path.read_bytes()
    path.write_bytes(raw[:8] + b"[" + raw[9:])
    assert refused(project).startswith(f"{path}: byte 8: the header is broken")


def test_an_index_that_leads_outside_is_refused(project: Project, model: Path) -> None:
    index = model / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"w": "../../etc/passwd"}}))
    assert refused(project).startswith(f"{index}: weight_map: '../../etc/passwd' is no file of")


def test_a_name_that_is_no_text_is_refused(project: Project, model: Path) -> None:
    Path(str(model) + "/odd\udcff").touch()
    assert "odd" in refused(project)


def test_a_link_to_a_folder_is_refused(project: Project, model: Path) -> None:
    """A link to a folder would be left out in silence."""
    (model / "sub").symlink_to(TINY)
    assert refused(project).startswith(f"{model}/sub: ")


def test_a_failure_spares_the_result_before(project: Project, model: Path) -> None:
    build(project)
    before = (project.build / "m/base/manifest.json").read_bytes()
    (model / "config.json").unlink()
    assert build(project)[0] == 1
    assert (project.build / "m/base/manifest.json").read_bytes() == before


def test_an_architecture_that_the_catalogue_lacks_stops_what_needs_it(
    project: Project, model: Path
) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(
        json.dumps({**config, "architectures": ["LlamaForCausalML"]})
    )
    path = project.recipes / "m.yaml"
    path.write_text(path.read_text() + "onboard: {mount: /models/m}\n")
    status, _, said = build(project, "onboard:m")
    assert status == 1
    assert said.startswith("ERROR: onboard:m: LlamaForCausalML: not in the catalogue")
    assert "perhaps you meant 'LlamaForCausalLM'?" in said
    assert "base.architecture" in said
    assert not (project.build / "m/onboard").exists()
