"""The image that is built without a daemon."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tasks import image
from tasks.core import paths
from tasks.core.engine import digests, manifest, stage
from tasks.core.errors import UserError
from tasks.core.image import layers, layouts, oci, wheelchoice, wheellock, wheels
from tasks.core.recipe import Recipe
from tasks.core.sources import lockfile
from tests.conftest import Project
from tests.core.image.test_oci import put_layout

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model-00001-of-00002.safetensors": os.urandom(70_000),
    "model-00002-of-00002.safetensors": os.urandom(65_537),
    "sub/folder/tokenizer.json": b"{}",
    "empty": b"",
    ".git/HEAD": b"ref",
    "iter_10.pth": b"checkpoint",
}
OUT = {name: content for name, content in FILES.items() if name not in (".git/HEAD", "iter_10.pth")}
SCRATCH = "base: {path: x}\nimage: {base: scratch, repository: llms/m}\n"
LAYERED = "base: {path: x}\nimage: {base: 'oci:base', repository: llms/m}\n"


@pytest.fixture(autouse=True)
def small_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layers, "BIG", 65_536)


@pytest.fixture
def recipe(project: Project) -> Recipe:
    project.result("m", "base", FILES)
    return project.recipe("m", SCRATCH)


def built(recipe: Recipe, folder: Path) -> oci.Image:
    folder.mkdir(parents=True)
    image.settle(recipe)
    image.run(recipe, folder)
    return layouts.verify(folder)


def blob(layout: Path, descriptor: oci.Descriptor) -> bytes:
    digest: str = descriptor["digest"]
    return (layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()


def members(layout: Path, layer: oci.Descriptor) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(blob(layout, layer))) as archive:
        return {
            member.name: (member, (archive.extractfile(member) or io.BytesIO()).read())
            for member in archive.getmembers()
        }


def test_the_layers_hold_every_byte(recipe: Recipe, tmp_path: Path) -> None:
    made = built(recipe, tmp_path / "out")
    found = [item for layer in made.layers for item in members(tmp_path / "out", layer).items()]
    names = [name for name, _ in found]
    assert len(names) == len(set(names))
    files = {name: content for name, (info, content) in found if info.isfile()}
    assert files == {f"data/{name}": content for name, content in OUT.items()}
    assert [n for n, (info, _) in found if info.isdir()] == ["data", "data/sub", "data/sub/folder"]


def test_the_layers_tell_nothing_of_this_machine(recipe: Recipe, tmp_path: Path) -> None:
    made = built(recipe, tmp_path / "out")
    for layer in made.layers:
        for info, _ in members(tmp_path / "out", layer).values():
            assert (info.uid, info.gid, info.uname, info.gname, info.mtime) == (0, 0, "", "", 0)
            assert info.mode == (0o755 if info.isdir() else 0o644)


def test_two_builds_give_the_same_bytes(
    recipe: Recipe, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built(recipe, tmp_path / "1")
    (project.build / "m/base/config.json").chmod(0o600)
    os.utime(project.build / "m/base/config.json", (0, 0))
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    built(recipe, tmp_path / "2")
    first, second = (
        {file.path: file.digest for file in manifest.describe(tmp_path / out)} for out in "12"
    )
    assert first == second


def test_the_digest_is_the_image_manifest_s(recipe: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    facts = image.run(recipe, folder)
    (descriptor,) = json.loads((folder / "index.json").read_text())["manifests"]
    assert facts["digest"] == descriptor["digest"] == (folder / "digest").read_text().strip()
    stack = layouts.verify(folder).layers
    assert facts["layers"] == len(stack) == 3
    assert facts["bytes"] == sum(layer["size"] for layer in stack)


def test_a_small_file_that_changes_moves_no_weights(
    recipe: Recipe, project: Project, tmp_path: Path
) -> None:
    before = built(recipe, tmp_path / "1").layers
    (project.build / "m/base/config.json").write_text('{"model_type": "qwen2"}')
    after = built(recipe, tmp_path / "2").layers
    assert before[0] != after[0]
    assert before[1:] == after[1:]


def test_a_config_says_what_runs_and_where_layers_come_from(recipe: Recipe, tmp_path: Path) -> None:
    made = built(recipe, tmp_path / "out")
    assert made.config == {
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Entrypoint": [
                *["python3", "-m", "vllm.entrypoints.openai.api_server", "--model", "/data"]
            ],
            "Labels": {"org.opencontainers.image.title": "m"},
        },
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in made.layers]},
        "history": [
            {"created": "1970-01-01T00:00:00Z", "created_by": f"COPY {origin} /data"}
            for origin in ("3 files", *sorted(name for name in OUT if name.startswith("model")))
        ],
    }


def test_the_build_hashes_every_layer_once_and_no_file_again(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    again: list[str] = []
    hash_file = digests.read

    def hash_again(path: Path) -> str:
        again.append(path.name)
        return hash_file(path)

    monkeypatch.setattr(digests, "read", hash_again)
    stage.execute("image", image, recipe)
    assert sorted(again) == ["digest", "index.json", "layers.json", "oci-layout"]


def test_a_built_image_is_fresh_until_its_model_changes(recipe: Recipe, project: Project) -> None:
    stage.execute("image", image, recipe)
    assert stage.is_fresh("image", image, recipe)
    receipt = manifest.read(paths.manifest("m", "image"))
    assert receipt is not None
    assert receipt.facts["layers"] == 3
    weights = project.build / "m/base"
    weights.rename(project.build / "m/old")
    project.result("m", "base", {**FILES, "config.json": b"{}"})
    assert not stage.is_fresh("image", image, recipe)


def test_more_files_than_layers_are_packed(project: Project, tmp_path: Path) -> None:
    names = [f"model-{number:05}.safetensors" for number in range(150)]
    project.result("m", "base", {name: name.encode() * 5_000 for name in names})
    made = built(project.recipe("m", SCRATCH), tmp_path / "out")
    assert len(made.layers) == image.MOST_LAYERS == 100
    found = [n for layer in made.layers for n in members(tmp_path / "out", layer)]
    assert sorted(found) == ["data", *(f"data/{name}" for name in names)]


def test_a_model_that_changes_during_the_build_is_an_error(
    recipe: Recipe, project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = project.build / "m/base/model-00002-of-00002.safetensors"
    header = layers.header

    def meddle(name: str, size: int) -> bytes:
        if name.endswith(weights.name):
            weights.write_bytes(b"shorter")
        return header(name, size)

    monkeypatch.setattr(layers, "header", meddle)
    with pytest.raises(UserError, match="changed while it was read"):
        built(recipe, tmp_path / "out")


@pytest.fixture
def layered(project: Project) -> Recipe:
    put_layout(project.recipes / "m/base", docker=True)
    project.result("m", "base", FILES)
    return project.recipe("m", LAYERED)


def test_the_base_lies_below_our_layers(layered: Recipe, project: Project, tmp_path: Path) -> None:
    base = layouts.read(project.recipes / "m/base")
    made = built(layered, tmp_path / "out")
    assert made.layers[:2] == base.layers
    assert made.diff_ids == [*base.diff_ids, *(layer["digest"] for layer in made.layers[2:])]
    for layer in base.layers:
        assert blob(tmp_path / "out", layer) == blob(project.recipes / "m/base", layer)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_symlink()]
    text = (tmp_path / "out/index.json").read_text() + blob(
        tmp_path / "out", made.descriptor
    ).decode()
    assert "docker" not in text


def test_the_base_keeps_its_environment_and_loses_its_command(
    layered: Recipe, project: Project, tmp_path: Path
) -> None:
    base = layouts.read(project.recipes / "m/base")
    config = built(layered, tmp_path / "out").config
    process = config["config"]
    assert (process["Env"], process["WorkingDir"]) == (["PATH=/bin"], "/w")
    assert "Cmd" not in process
    assert process["Entrypoint"][0] == "python3"
    assert process["Labels"]["org.opencontainers.image.base.digest"] == base.descriptor["digest"]
    assert config["history"][:2] == base.config["history"]
    assert len(config["history"]) == 5


@pytest.mark.parametrize(("name", "label"), [("vllm/vllm-openai:v0.4.1", True), ("latest", False)])
def test_the_base_s_name_is_a_label_where_it_is_a_reference(
    layered: Recipe, project: Project, tmp_path: Path, name: str, label: bool
) -> None:
    index = project.recipes / "m/base/index.json"
    content = json.loads(index.read_text())
    content["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": name}
    index.write_text(json.dumps(content))
    labels = built(layered, tmp_path / "out").config["config"]["Labels"]
    assert labels.get("org.opencontainers.image.base.name") == (name if label else None)


def test_a_base_with_too_many_layers_is_refused(project: Project, tmp_path: Path) -> None:
    put_layout(project.recipes / "m/base", layers=99)
    project.result("m", "base", FILES)
    with pytest.raises(UserError, match="too many layers; the base may have 98"):
        built(project.recipe("m", LAYERED), tmp_path / "out")


def test_a_corrupted_base_is_refused(layered: Recipe, project: Project, tmp_path: Path) -> None:
    layer = layouts.read(project.recipes / "m/base").layers[1]
    name = layer["digest"].removeprefix("sha256:")
    (project.recipes / "m/base/blobs/sha256" / name).write_bytes(b"?" * layer["size"])
    with pytest.raises(UserError, match=f"{name}: the content has another digest"):
        built(layered, tmp_path / "out")


def changed(recipe: Recipe, **part: Any) -> Recipe:
    assert recipe.image is not None
    return recipe.model_copy(update={"image": recipe.image.model_copy(update=part)})


def test_the_key_is_what_can_change_the_image(layered: Recipe, project: Project) -> None:
    before = image.key(layered)
    assert image.key(changed(layered, tag="v2", repository="other")) == before
    (project.recipes / "m/base").rename(project.recipes / "m/moved")
    assert image.key(changed(layered, base="oci:moved")) == before
    assert image.key(changed(layered, base="scratch")) != before
    moved = changed(layered, base="oci:moved")
    assert image.key(changed(moved, entrypoint=("vllm", "serve"))) != before
    # Packages cannot be installed here: an image made before they were asked for is no answer.
    assert image.key(changed(moved, pip=("tiktoken",))) != before
    put_layout(project.recipes / "m/moved", layers=3)
    assert image.key(moved) != before


def test_a_base_that_is_not_there_is_named(project: Project) -> None:
    recipe = project.recipe("m", LAYERED)
    with pytest.raises(UserError, match=r"m/base: no OCI layout there"):
        image.key(recipe)


def test_a_layout_without_layers_is_the_same_image(
    recipe: Recipe, project: Project, tmp_path: Path
) -> None:
    built(recipe, tmp_path / "whole")
    (tmp_path / "thin").mkdir()
    image.run(
        project.recipe("m", SCRATCH.replace("scratch", "scratch, layout: false")), tmp_path / "thin"
    )
    whole, thin = ((tmp_path / name / "digest").read_text() for name in ("whole", "thin"))
    assert whole == thin
    assert sum(path.stat().st_size for path in (tmp_path / "thin").rglob("*")) < 100_000


@pytest.mark.parametrize("stored", [False, True])
def test_a_new_command_hashes_no_layer_again(
    recipe: Recipe, project: Project, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    text = SCRATCH.replace("scratch", f"scratch, layout: {str(stored).lower()}")
    stage.execute("image", image, project.recipe("m", text))
    monkeypatch.setattr(layers, "read", lambda *_: pytest.fail("a layer was read"))
    other = project.recipe("m", text.replace("scratch", "scratch, entrypoint: [sh]"))
    stage.execute("image", image, other)


def wheel(folder: Path, name: str, requires: str = "", version: str = "1.0") -> None:
    """Write a wheel of a package of one line."""
    folder.mkdir(exist_ok=True)
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    told = f"{name}-{version}.dist-info"
    contents = {
        f"{name}.py": f"here = {version}\n",
        f"{told}/METADATA": head + (f"Requires-Dist: {requires}\n" if requires else ""),
        f"{told}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{told}/RECORD": f"{name}.py,,\n{told}/METADATA,,\n{told}/WHEEL,,\n{told}/RECORD,,\n",
    }
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, content in contents.items():
            archive.writestr(path, content)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip takes all of its packages from."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "packages"))
    wheel(tmp_path / "packages", "inner")
    wheel(tmp_path / "packages", "outer", "inner")
    return tmp_path / "packages"


def packed(project: Project, keys: str = 'pip: [outer], python: "3.10"') -> Recipe:
    if not paths.output("m", "base").exists():
        project.result("m", "base", FILES)
    return project.recipe("m", SCRATCH.replace("scratch", f"scratch, {keys}"))


def test_packages_come_as_a_layer_of_wheels(
    project: Project, packages: Path, tmp_path: Path
) -> None:
    # True of the base's Python alone, whichever runs the tests.
    wheel(packages, "outer", "inner; python_full_version == '3.10.0'")
    made = built(packed(project), tmp_path / "out")
    files = members(tmp_path / "out", made.layers[0])
    assert files["opt/modelwright/wheels/outer.py"][1] == b"here = 1.0\n"
    assert "opt/modelwright/wheels/inner.py" in files
    assert not [name for name in files if "__pycache__" in name]
    assert made.config["config"]["Env"] == ["PYTHONPATH=/opt/modelwright/wheels"]
    locked = lockfile.read(packed(project), "image")["pip"]["wheels"]
    content = (packages / "inner-1.0-py3-none-any.whl").read_bytes()
    assert locked["inner"] == {"version": "1.0", "digest": digests.of_bytes(content)}


def test_a_new_version_of_a_package_waits_for_update(
    project: Project, packages: Path, tmp_path: Path
) -> None:
    recipe = packed(project)
    stage.execute("image", image, recipe)
    before = (paths.output("m", "image") / "digest").read_text()
    wheel(packages, "inner", version="2.0")
    assert stage.is_fresh("image", image, recipe)
    assert built(recipe, tmp_path / "colleague").descriptor["digest"] == before.strip()
    image.update(recipe)
    assert not stage.is_fresh("image", image, recipe)
    assert lockfile.read(recipe, "image")["pip"]["wheels"]["inner"]["version"] == "2.0"


def test_a_lock_answers_one_question_only(project: Project) -> None:
    recipe = packed(project)
    asked = {"base": "scratch", "packages": ["outer"], "python": "3.10"}
    lockfile.update(recipe, "image", pip={"from": asked, "python": "3.10", "wheels": {}})
    assert wheellock.read(recipe)
    assert wheellock.read(packed(project, 'pip: [third], python: "3.10"')) is None
    assert wheellock.read(packed(project, 'pip: [outer], python: "3.12"')) is None


MARKS = wheelchoice.environment("3.10", None)


def closure(
    packages: Path, asked: list[str], provided: set[str], marks: dict[str, str]
) -> tuple[dict[str, Path], list[str]]:
    return wheelchoice.closure(wheelchoice.by_name(packages), asked, provided, marks)


def test_what_only_the_base_s_own_packages_want_is_not_added(packages: Path) -> None:
    wheel(packages, "inner", "gigabytes")
    wheel(packages, "gigabytes")
    found, lacking = closure(packages, ["Outer>=1"], {"inner"}, MARKS)
    assert (list(found), lacking) == (["outer"], [])
    found, _ = closure(packages, ["outer"], set(), MARKS)
    assert sorted(found) == ["gigabytes", "inner", "outer"]


def test_marks_are_the_base_s_python_s_and_not_ours(packages: Path) -> None:
    wheel(packages, "outer", "backport>=2; python_version < '3.11'")
    _, lacking = closure(packages, ["outer"], set(), MARKS)
    assert lacking == ["backport>=2"]
    later = wheelchoice.environment("3.12", None)
    assert closure(packages, ["outer"], set(), later)[1] == []
    wheel(packages, "outer", "inner; extra == 'more'")
    assert list(closure(packages, ["outer"], set(), MARKS)[0]) == ["outer"]
    assert "inner" in closure(packages, ["outer[more]"], set(), MARKS)[0]


def test_a_wheel_of_a_version_that_nobody_asked_for_is_lacking(packages: Path) -> None:
    wheel(packages, "third", "inner!=0.9")
    wheel(packages, "outer", "inner<1")
    found, lacking = closure(packages, ["outer", "third"], set(), MARKS)
    assert (sorted(found), lacking) == (["outer", "third"], ["inner!=0.9,<1"])


def test_the_version_is_the_one_that_the_base_s_python_needs(
    project: Project, packages: Path
) -> None:
    """Of two that marks tell apart pip takes that of the Python which runs it."""
    wheel(packages, "inner", version="2.0")
    marked = ("inner>=2; python_version > '3.9'", "inner<2; python_version <= '3.9'")
    wheel(packages, "outer", "\nRequires-Dist: ".join(marked))
    found = wheelchoice.choose(packed(project, "pip: [outer]"), None, "3.9")
    assert {name: one["version"] for name, one in found.items()} == {"inner": "1.0", "outer": "1.0"}


def test_a_round_that_brings_nothing_new_is_the_last(
    project: Project, packages: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "pip", lambda words: "")
    with pytest.raises(UserError, match="no wheels fit together, of outer; choose other versions"):
        wheelchoice.choose(packed(project), None, "3.10")


@pytest.mark.parametrize(
    "package", ["/x/inner-1.0-py3-none-any.whl", "inner[", "-r x", "inner; python_version < '3'"]
)
def test_what_a_lock_cannot_name_is_refused(project: Project, packages: Path, package: str) -> None:
    recipe = packed(project, f'pip: ["{package}"], python: "3.10"')
    with pytest.raises(UserError, match="is no package with an optional version; write it like"):
        wheelchoice.choose(recipe, None, "3.10")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ('pip: [nonesuch], python: "3.10"', "pip has no wheels of nonesuch for Python 3.10"),
        ("pip: [outer]", "image.python: the base does not tell"),
    ],
)
def test_packages_that_cannot_be_had_are_an_error(
    project: Project, packages: Path, tmp_path: Path, keys: str, told: str
) -> None:
    with pytest.raises(UserError, match=told):
        built(packed(project, keys), tmp_path / "out")
    assert not list((project.build / ".downloads").glob("*"))


def test_wheels_that_no_longer_fit_the_lock_are_refused(
    project: Project, packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = packed(project)
    image.settle(recipe)
    wheel(packages, "inner", "outer")
    with pytest.raises(UserError, match="pip cannot get what the lock names; run `doit update:m`"):
        built(recipe, tmp_path / "out")
    monkeypatch.setattr(wheels, "python", lambda recipe, base: "3.12")
    with pytest.raises(UserError, match="the lock has wheels for Python 3"):
        built(recipe, tmp_path / "again")


def test_what_vllm_s_image_has_is_not_added(project: Project) -> None:
    text = "base: {hub: THUDM/chatglm3-6b}\nimage: {base: 'vllm/vllm-openai:v0.4.1', "
    recipe = project.recipe("m", text + "pip: [tiktoken, Outer, 'numpy==1.26'], repository: m}\n")
    assert wheels.missing(recipe) == ["Outer", "numpy==1.26"]
    assert "torch" in wheels.provided(recipe)
    assert "numpy" not in wheels.provided(recipe)


def test_what_the_base_has_is_said(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    text = "base: {hub: THUDM/chatglm3-6b}\nimage: {base: 'vllm/vllm-openai:v0.4.1', "
    recipe = project.recipe("m", text + "pip: [tiktoken], repository: m}\n")
    assert image._packages(recipe, None, project.build) == []
    assert "tiktoken is in vllm/vllm-openai:v0.4.1 already" in capsys.readouterr().out


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("docker", [False, True])
def test_skopeo_reads_and_copies_the_layout(project: Project, tmp_path: Path, docker: bool) -> None:
    project.result("m", "base", FILES)
    put_layout(project.recipes / "m/base", docker=docker)
    made = built(project.recipe("m", LAYERED), tmp_path / "out")

    def skopeo(*words: str) -> Any:
        run = subprocess.run(["skopeo", *words], capture_output=True, check=True)
        return json.loads(run.stdout) if words[0] == "inspect" else None

    found = skopeo("inspect", f"oci:{tmp_path}/out")
    assert found["Digest"] == made.descriptor["digest"]
    assert found["Layers"] == [layer["digest"] for layer in made.layers]
    config = skopeo("inspect", "--config", f"oci:{tmp_path}/out")
    assert config["config"]["Entrypoint"] == made.config["config"]["Entrypoint"]
    # A copy checks every digest.
    skopeo("--insecure-policy", "copy", f"oci:{tmp_path}/out", f"dir:{tmp_path}/copy")
