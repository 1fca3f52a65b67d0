"""The image in the registry."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest

from tasks import STAGES, image, push
from tasks.core import paths, settings
from tasks.core.engine import stage
from tasks.core.errors import UserError
from tasks.core.image import blobupload, layers, layouts
from tasks.core.recipe import Recipe
from tests.conftest import Project
from tests.services import faults, images
from tests.services import registry as registries
from tests.services.docker import Engine
from tests.services.registry import PASSWORD, USER, Registry

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model-00001-of-00002.safetensors": os.urandom(3_000_000),
    "model-00002-of-00002.safetensors": os.urandom(2_000_001),
    "sub/tokenizer.json": b"{}",
}
SCRATCH = (
    "base: {path: x}\nimage: {base: scratch, layout: false, repository: llms/m, tag: v2.0.1}\n"
)

INDEX = "application/vnd.oci.image.index.v1+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
needs_registry = pytest.mark.needs("docker-registry", "htpasswd")


@pytest.fixture(autouse=True)
def small_layers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(layers, "BIG", 65_536)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)


@pytest.fixture
def registry(
    plain_registry: Registry, project: Project, monkeypatch: pytest.MonkeyPatch
) -> Registry:
    plain_registry.empty()
    use(plain_registry, monkeypatch)
    return plain_registry


@pytest.fixture
def recipe(project: Project) -> Recipe:
    project.result("m", "base", FILES)
    return project.recipe("m", SCRATCH)


def on(project: Project, base: str, rest: str = "") -> Recipe:
    """Return a recipe with a base of its own, whose model is there."""
    project.result("m", "base", FILES)
    return project.recipe("m", SCRATCH.replace("scratch, layout: false", f"'{base}'{rest}"))


def use(registry: Registry, monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    monkeypatch.setenv("MODELWRIGHT_REGISTRY", registry.host)
    for name, value in values.items():
        monkeypatch.setenv(f"MODELWRIGHT_REGISTRY_{name.upper()}", value)
    settings.current.cache_clear()


def ship(recipe: Recipe) -> str:
    """Build and push; return the reference."""
    for name in ("image", "push"):
        stage.execute(name, STAGES[name], recipe)
    return (Path(settings.current().build) / "m/push/reference").read_text().strip()


def manifest(registry: Registry, reference: str, kind: str = OCI) -> httpx.Response:
    """Return what the registry has under a tag or digest, such as `llms/m:v1`."""
    name, _, reference = reference.replace("@", ":").partition(":")
    url = f"http://{registry.host}/v2/{name}/manifests/{reference}"
    return httpx.get(url, headers={"Accept": kind})


def log_in(host: str, folder: Path, password: str = PASSWORD) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def listed(engine: Engine, *words: str) -> list[str]:
    """Run an image; return what it prints: the stand-in lists its files and their digests."""
    return engine.docker("run", "--rm", "--network", "none", *words).splitlines()


EXPECTED = [f"{hashlib.sha256(FILES[name]).hexdigest()}  /data/{name}" for name in sorted(FILES)]


@needs_registry
def test_a_push_keeps_the_tag_and_records_the_digest(recipe: Recipe, registry: Registry) -> None:
    reference = ship(recipe)
    name, digest = reference.split("@")
    assert name == f"{registry.host}/llms/m:v2.0.1"
    answer = manifest(registry, "llms/m:v2.0.1")
    assert answer.headers["Docker-Content-Digest"] == digest == images.digest(answer.content)


@needs_registry
def test_a_push_leaves_no_layer_on_this_disk(
    recipe: Recipe, registry: Registry, project: Project
) -> None:
    ship(recipe)
    made = [
        path for stage in ("image", "push") for path in (project.build / "m" / stage).rglob("*")
    ]
    assert sum(path.stat().st_size for path in made if path.is_file()) < 10_000


@needs_registry
def test_a_second_push_sends_nothing(
    recipe: Recipe, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    ship(recipe)
    assert stage.is_fresh("push", push, recipe)
    stage.clean("push", recipe)
    capsys.readouterr()
    ship(recipe)
    assert "sent" not in capsys.readouterr().out


@needs_registry
@pytest.mark.parametrize("change", ["moved", "deleted"])
def test_a_tag_that_others_touch_makes_push_stale(
    recipe: Recipe, registry: Registry, change: str, stand_in: tuple[bytes, bytes, bytes]
) -> None:
    digest = ship(recipe).partition("@")[2]
    assert stage.is_fresh("push", push, recipe)
    if change == "moved":
        images.put(registry.host, "llms/m", "v2.0.1", stand_in)
    else:
        url = f"http://{registry.host}/v2/llms/m/manifests/{digest}"
        assert httpx.delete(url).status_code == 202
    assert not stage.is_fresh("push", push, recipe)
    assert ship(recipe).partition("@")[2] == digest
    assert stage.is_fresh("push", push, recipe)


@needs_registry
def test_a_base_in_another_registry_is_relayed_and_locked(
    project: Project,
    registry: Registry,
    other_registry: Registry,
    stand_in: tuple[bytes, bytes, bytes],
) -> None:
    base = images.put(other_registry.host, "vllm/vllm-openai", "v0.4.1", stand_in)
    name = f"{other_registry.host}/vllm/vllm-openai:v0.4.1"
    recipe = on(project, name)
    ship(recipe)
    assert f"base: {name}@{base}" in (project.recipes / "m.lock").read_text()
    lowest = manifest(registry, "llms/m:v2.0.1").json()["layers"][0]
    assert lowest["digest"] == images.digest(stand_in[2])
    assert lowest["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    images.put(other_registry.host, "vllm/vllm-openai", "v0.4.1", images.image(b"\0" * 1024))
    assert stage.is_fresh("image", STAGES["image"], recipe), "the lock holds the base"
    image.update(recipe)
    assert not stage.is_fresh("image", STAGES["image"], recipe)


@needs_registry
def test_a_base_in_the_same_registry_is_mounted(
    project: Project,
    registry: Registry,
    stand_in: tuple[bytes, bytes, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images.put(registry.host, "vllm/vllm-openai", "v0.4.1", stand_in)
    monkeypatch.setattr("tasks.core.image.registry.Registry.read_blob", refuse_layers(stand_in))
    ship(on(project, f"{registry.host}/vllm/vllm-openai:v0.4.1"))


def refuse_layers(image: tuple[bytes, bytes, bytes]) -> object:
    from tasks.core.image.registry import Registry as Client

    read_blob = Client.read_blob

    def read(self: Client, repository: str, digest: str, start: int = 0) -> object:
        assert digest != images.digest(image[2]), "the base's layer is read"
        return read_blob(self, repository, digest, start)

    return read


@needs_registry
def test_a_registry_with_a_password_is_pushed_to(
    recipe: Recipe,
    password_registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    use(password_registry, monkeypatch)
    with pytest.raises(UserError, match="none are known; `docker login"):
        ship(recipe)
    log_in(password_registry.host, tmp_path / "docker", "wrong-of-a-test")
    with pytest.raises(UserError, match="missing or wrong") as refused:
        ship(recipe)
    assert "wrong-of-a-test" not in str(refused.value)
    log_in(password_registry.host, tmp_path / "docker")
    assert ship(recipe).startswith(password_registry.host)
    made = (Path(settings.current().build) / "m").rglob("*")
    assert not any(PASSWORD.encode() in path.read_bytes() for path in made if path.is_file())


@pytest.mark.needs("docker-registry", "htpasswd", "openssl")
def test_a_certificate_is_trusted_only_when_told(
    recipe: Recipe, tls_registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log_in(tls_registry.host, tmp_path / "docker")
    use(tls_registry, monkeypatch)
    with pytest.raises(UserError, match="MODELWRIGHT_REGISTRY_CA"):
        ship(recipe)
    use(tls_registry, monkeypatch, ca=str(tls_registry.ca))
    assert ship(recipe).startswith(tls_registry.host)
    use(tls_registry, monkeypatch, ca="", insecure=tls_registry.host)
    assert stage.is_fresh("push", push, recipe)


@pytest.mark.needs("dockerd", "docker", "docker-registry", "busybox", "curl")
def test_the_pulled_image_holds_every_byte(
    project: Project,
    registry: Registry,
    other_registry: Registry,
    stand_in: tuple[bytes, bytes, bytes],
    engine: Engine,
) -> None:
    images.put(other_registry.host, "vllm/vllm-openai", "v0.4.1", stand_in)
    reference = ship(on(project, f"{other_registry.host}/vllm/vllm-openai:v0.4.1"))
    engine.docker("pull", reference)
    assert listed(engine, reference) == EXPECTED
    environ = engine.docker("inspect", "-f", "{{json .Config.Env}}", reference)
    assert "VLLM=stand-in" in json.loads(environ)


@pytest.mark.needs("skopeo", "docker-registry")
def test_skopeo_reads_and_copies_the_image(
    recipe: Recipe, registry: Registry, tmp_path: Path
) -> None:
    digest = ship(recipe).partition("@")[2]
    source = f"docker://{registry.host}/llms/m:v2.0.1"
    seen = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", source], capture_output=True, check=True
    )
    assert json.loads(seen.stdout)["Digest"] == digest
    copy = ["skopeo", "copy", "--src-tls-verify=false", "--dest-oci-accept-uncompressed-layers"]
    subprocess.run([*copy, source, f"oci:{tmp_path / 'copy'}"], capture_output=True, check=True)
    (made,) = json.loads((tmp_path / "copy/index.json").read_text())["manifests"]
    assert made["digest"] == digest


CLIENTS = ["/usr/bin/docker", "/usr/local/bin/docker"]
ENGINE = """
base: {path: x}
image:
  base: stand-in:v1
  builder: docker
  build: {network: none, args: {WHO: me}}
  repository: llms/m
  tag: v2
  env: {GREETING: 'a "quoted" $word'}
"""


@pytest.fixture
def engine_base(
    engine: Engine, stand_in: tuple[bytes, bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> Engine:
    """An engine that has the stand-in, by no registry, and that builds images."""
    import gzip

    engine.docker("import", "-", "stand-in:v1", text=gzip.decompress(stand_in[2]))
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    return engine


def for_engine(project: Project, base: str = "stand-in:v1") -> Recipe:
    """Return a recipe that an engine builds, with its model and its Dockerfile."""
    project.result("m", "base", FILES)
    recipe = project.recipe("m", ENGINE.replace("stand-in:v1", base))
    stage.execute("dockerfile", STAGES["dockerfile"], recipe)
    return recipe


@pytest.mark.needs("dockerd", "docker", "docker-registry", "busybox", "curl")
@pytest.mark.parametrize("client", [path for path in CLIENTS if Path(path).exists()] or CLIENTS)
@pytest.mark.parametrize("linked", [False, True])
def test_an_engine_builds_and_pushes_the_same_files(
    project: Project,
    registry: Registry,
    engine_base: Engine,
    client: str,
    linked: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("PATH", f"{Path(client).parent}:{os.environ['PATH']}")
    (project.recipes / "m").mkdir()
    weights = project.recipes / "m/x"
    weights.mkdir()
    for name, content in {**FILES, ".git/HEAD": b"ref", "train.log": b"line"}.items():
        place = tmp_path / "real" / name if linked else weights / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        if linked:
            (weights / name).parent.mkdir(parents=True, exist_ok=True)
            (weights / name).symlink_to(place)
    before = sorted(path for path in weights.rglob("*"))
    recipe = for_engine(project)
    reference = ship(recipe)
    assert sorted(path for path in weights.rglob("*")) == before, "written into the user's folder"
    assert stage.is_fresh("image", STAGES["image"], recipe)
    assert stage.is_fresh("push", push, recipe)
    assert listed(engine_base, "--entrypoint", "python3", reference) == EXPECTED
    environ = json.loads(engine_base.docker("inspect", "-f", "{{json .Config.Env}}", reference))
    assert 'GREETING=a "quoted" $word' in environ
    engine_base.docker("rmi", "-f", *engine_base.docker("images", "-q", "llms/m").split())
    assert not stage.is_fresh("image", STAGES["image"], recipe)


@pytest.mark.needs("dockerd", "docker", "curl")
def test_what_the_engine_refuses_is_said(
    project: Project, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    recipe = for_engine(project, "127.0.0.1:9/no/such:v1")
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9") as failure:
        stage.execute("image", STAGES["image"], recipe)
    assert "docker build failed" in str(failure.value)
    text = recipe.file.read_text().replace("network: none", "network: none, pull: never")
    never = project.recipe("m", text)
    with pytest.raises(UserError, match="the engine has no 127"):
        stage.execute("image", STAGES["image"], never)


@pytest.mark.needs("docker")
def test_no_engine_is_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{project.build}/none.sock")
    recipe = for_engine(project)
    with pytest.raises(UserError, match="no Docker engine answers at unix"):
        stage.execute("image", STAGES["image"], recipe)


@pytest.mark.needs("dockerd", "docker", "docker-registry", "busybox", "curl")
@pytest.mark.parametrize("layout", [False, True])
def test_an_archive_of_docker_save_is_a_base(
    project: Project, registry: Registry, engine_base: Engine, layout: bool
) -> None:
    (project.recipes / "m").mkdir()
    engine_base.docker("save", "-o", str(project.recipes / "m/base.tar"), "stand-in:v1")
    rest = f", layout: {str(layout).lower()}, entrypoint: [python3]"
    reference = ship(on(project, "docker-archive:base.tar", rest))
    engine_base.docker("pull", reference)
    assert listed(engine_base, reference) == EXPECTED


@pytest.mark.needs("dockerd", "docker", "busybox", "curl", "skopeo")
@pytest.mark.parametrize("kind", ["docker-archive", "oci"])
def test_an_engine_builds_on_a_base_that_is_a_file_or_folder_here(
    project: Project,
    engine_base: Engine,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (project.recipes / "m").mkdir()
    archive = project.recipes / "m/base.tar"
    engine_base.docker("save", "-o", str(archive), "stand-in:v1")
    if kind == "oci":  # with packed layers, as a registry's copy has them
        copy = ["skopeo", "--insecure-policy", "copy", f"docker-archive:{archive}"]
        subprocess.run([*copy, f"oci:{archive}"[:-4]], capture_output=True, check=True)
    recipe = for_engine(project, f"'{kind}:base{'.tar' * (kind != 'oci')}'")
    stage.execute("image", STAGES["image"], recipe)
    made = (paths.output("m", "image") / "digest").read_text().strip()
    assert listed(engine_base, "--entrypoint", "python3", made) == EXPECTED
    assert stage.is_fresh("image", STAGES["image"], recipe)
    image.update(recipe)
    # A second build needs no second loading.
    monkeypatch.setattr("tasks.core.image.dockerarchive.stream", None)
    stage.clean("image", recipe)
    stage.execute("image", STAGES["image"], recipe)
    adapter = project.recipe("m", f"{ENGINE}  serve: adapter\nadapter: {{path: a}}\n")
    monkeypatch.setattr("tasks.core.image.dockerengine.has_buildx", lambda: False)
    with pytest.raises(UserError, match="only through Docker's buildx"):
        image.run(adapter, project.build)


@pytest.mark.needs("dockerd", "docker", "docker-registry", "busybox", "curl")
def test_update_locks_the_base_for_an_engine_too(
    project: Project,
    registry: Registry,
    engine_base: Engine,
    stand_in: tuple[bytes, bytes, bytes],
    capsys: pytest.CaptureFixture[str],
) -> None:
    own = project.recipe("m", ENGINE)
    image.update(own)
    assert "stand-in:v1 is the engine's own; nothing to look up" in capsys.readouterr().out
    digest = images.put(registry.host, "vllm/stand-in", "v1", stand_in)
    name = f"{registry.host}/vllm/stand-in:v1"
    image.update(project.recipe("m", ENGINE.replace("stand-in:v1", name)))
    stage.execute("image", STAGES["image"], for_engine(project, name))
    text = (paths.output("m", "dockerfile") / "Dockerfile").read_text()
    assert f"FROM {name}@{digest}" in text


ADAPTER = {"adapter_config.json": b'{"r": 20}', "adapter_model.safetensors": os.urandom(100_000)}


@pytest.mark.needs("dockerd", "docker", "docker-registry", "busybox", "curl")
def test_tuned_models_share_their_base_s_layers(
    project: Project, registry: Registry, stand_in: tuple[bytes, bytes, bytes], engine: Engine
) -> None:
    images.put(registry.host, "vllm/vllm-openai", "v0.4.1", stand_in)
    references = []
    for name in ("one", "two"):
        project.result(name, "base", FILES)
        adapter = {**ADAPTER, "adapter_model.safetensors": os.urandom(100_000)}
        project.result(name, "adapter", adapter)
        recipe = project.recipe(
            name,
            "base: {hub: a/b, architecture: LlamaForCausalLM}\nadapter: {path: a}\n"
            f"image: {{base: '{registry.host}/vllm/vllm-openai:v0.4.1', repository: llms/{name}, "
            "serve: adapter}\n",
        )
        for stage_ in ("image", "push"):
            stage.execute(stage_, STAGES[stage_], recipe)
        references.append((project.build / name / "push/reference").read_text().strip())
    one, two = (manifest(registry, f"llms/{n}:latest").json()["layers"] for n in ("one", "two"))
    assert one[:-1] == two[:-1]
    assert one[-1] != two[-1]
    engine.docker("pull", references[1])
    command = json.loads(
        engine.docker("inspect", "-f", "{{json .Config.Entrypoint}}", references[1])
    )
    assert command[-5:] == [
        "--enable-lora",
        "--lora-modules",
        "two=/adapter",
        "--max-lora-rank",
        "32",
    ]
    seen = engine.docker(
        "run", "--rm", "--network", "none", "--entrypoint", "find", references[1],
        "/data", "/adapter", "-type", "f",
    )  # fmt: skip
    expected = [*(f"/data/{name}" for name in FILES), *(f"/adapter/{name}" for name in ADAPTER)]
    assert sorted(seen.split()) == sorted(expected)


@needs_registry
def test_a_base_may_be_pulled_into_the_layout(
    project: Project,
    registry: Registry,
    other_registry: Registry,
    stand_in: tuple[bytes, bytes, bytes],
) -> None:
    images.put(other_registry.host, "vllm/vllm-openai", "v0.4.1", stand_in)
    recipe = on(project, f"{other_registry.host}/vllm/vllm-openai:v0.4.1", ", layout: true")
    stage.execute("image", STAGES["image"], recipe)
    layouts.verify(project.build / "m/image")
    other_registry.empty()
    stage.execute("push", push, recipe)


@needs_registry
@pytest.mark.parametrize("change", ["config.json", "entrypoint"])
def test_a_small_change_sends_little(
    recipe: Recipe,
    registry: Registry,
    project: Project,
    change: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ship(recipe)
    if change == "entrypoint":
        recipe = project.recipe("m", SCRATCH.replace("scratch", "scratch, entrypoint: [sh]"))
    else:
        shutil.rmtree(project.build / "m/base")
        project.result("m", "base", {**FILES, "config.json": b'{"model_type": "qwen2"}'})
    capsys.readouterr()
    sent: list[int] = []
    count = blobupload.Progress.count

    def counted(self: blobupload.Progress, pieces: blobupload.Pieces, most: int) -> object:
        sent.append(most)
        return count(self, pieces, most)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blobupload.Progress, "count", counted)
        ship(recipe)
    assert 0 < sum(sent) < 20_000


@needs_registry
@pytest.mark.parametrize(
    ("base", "told"),
    [
        ("{host}/no/such:v1", "no such image there; correct it"),
        ("{host}/no/such@sha256:" + "0" * 64, "no such image"),
        ("127.0.0.1:9/no/such:v1", "127.0.0.1:9: no answer"),
        ("docker-archive:none.tar", "none.tar: no such file; make it with `docker save"),
        ("oci:none", "no OCI layout there"),
    ],
)
def test_a_base_that_is_not_there_is_one_clear_error(
    project: Project, registry: Registry, base: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.core.image.registry.PAUSES", (0.01,))
    with pytest.raises(UserError) as failure:
        ship(on(project, base.format(host=registry.host)))
    assert told in str(failure.value)


@needs_registry
def test_a_base_with_another_content_than_its_digest_is_refused(
    project: Project, registry: Registry, stand_in: tuple[bytes, bytes, bytes]
) -> None:
    digest = images.put(registry.host, "base", "v1", stand_in)
    name = digest.removeprefix("sha256:")
    blob = registry.data / f"docker/registry/v2/blobs/sha256/{name[:2]}/{name}/data"
    blob.write_bytes(blob.read_bytes().replace(b'"schemaVersion": 2', b'"schemaVersion":  2'))
    with pytest.raises(UserError, match="the registry gave other content"):
        ship(on(project, f"{registry.host}/base@{digest}"))


@needs_registry
def test_a_read_only_registry_is_said(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = registries.start(tmp_path / "readonly", readonly=True)
    try:
        use(made, monkeypatch)
        with pytest.raises(UserError, match=r"405.*read-only"):
            ship(recipe)
    finally:
        made.server.stop()


@needs_registry
@pytest.mark.parametrize("form", ["{}/UPPER", "{}/a b", "{}/-a", "http://{}", "{}/a:v1"])
def test_a_registry_where_no_image_can_be_is_said_before(
    recipe: Recipe, registry: Registry, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = form.format(registry.host)
    monkeypatch.setenv("MODELWRIGHT_REGISTRY", wrong)
    settings.current.cache_clear()
    with pytest.raises(UserError, match=f"^MODELWRIGHT_REGISTRY: '{wrong}' should be host"):
        ship(recipe)


def test_no_registry_is_said(recipe: Recipe) -> None:
    with pytest.raises(UserError, match="MODELWRIGHT_REGISTRY is not set"):
        ship(recipe)


@needs_registry
def test_two_pushes_at_once_end_well(project: Project, registry: Registry) -> None:
    recipes = []
    for name in ("one", "two"):
        project.result(name, "base", FILES)
        recipes.append(project.recipe(name, SCRATCH.replace("v2.0.1", name)))
        stage.execute("image", STAGES["image"], recipes[-1])
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(partial(stage.execute, "push", push), recipes))
    assert all(stage.is_fresh("push", push, recipe) for recipe in recipes)


@needs_registry
def test_a_blob_that_another_push_is_finishing_is_soon_known_again(
    recipe: Recipe, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.core.image.registry.PAUSES", (0.01, 0.01))
    said = b'{"errors": [{"code": "DIGEST_INVALID"}, {"code": "MANIFEST_BLOB_UNKNOWN"}]}'
    with faults.proxy(registry.host) as proxy:
        monkeypatch.setenv("MODELWRIGHT_REGISTRY", proxy.host)
        settings.current.cache_clear()
        proxy.faults.append(faults.Fault("^PUT .*/manifests/", 2, status=400, body=said))
        assert ship(recipe).startswith(proxy.host)
        assert sum(line.endswith(" 400") for line in proxy.seen) == 2


@needs_registry
def test_killed_in_mid_upload_the_next_push_ends_well(
    registry: Registry, project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = project.recipes / "m/x"
    shutil.copytree("recipes/tiny-agent/base", model)
    (project.recipes / "m.yaml").write_text(SCRATCH)
    monkeypatch.setenv("MODELWRIGHT_DEFAULT", "m")
    command = [sys.executable, "-m", "doit", "push:m"]
    with faults.proxy(registry.host) as proxy:
        monkeypatch.setenv("MODELWRIGHT_REGISTRY", proxy.host)
        killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        proxy.on_body = lambda done: killed.kill() if done > 200_000 else None
        assert killed.wait(60) == -signal.SIGKILL
        proxy.on_body = lambda done: None
        assert not (project.build / "m/push").exists()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    reference = (project.build / "m/push/reference").read_text()
    assert reference.startswith(f"{proxy.host}/llms/m:v2.0.1@sha256:")


@needs_registry
@pytest.mark.parametrize("state", ["down", "busy"])
def test_ctrl_c_ends_a_push_that_waits_for_its_registry(
    registry: Registry, project: Project, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree("recipes/tiny-agent/base", project.recipes / "m/x")
    (project.recipes / "m.yaml").write_text(SCRATCH)
    monkeypatch.setenv("MODELWRIGHT_DEFAULT", "m")
    log = project.build.with_name("said")
    with faults.proxy(registry.host) as proxy, log.open("w") as said:
        later = {"Retry-After": "30"}
        proxy.faults.append(faults.Fault("HEAD .*/blobs/", 99, status=503, headers=later))
        host = {"down": "127.0.0.1:1", "busy": proxy.host}[state]
        monkeypatch.setenv("MODELWRIGHT_REGISTRY", host)
        command = [sys.executable, "-m", "doit", "push:m"]
        pushing = subprocess.Popen(command, stdout=said, stderr=said)
        try:
            while not ("trying again (2 of 6)" in log.read_text() or len(proxy.seen) > 2):
                assert pushing.poll() is None, log.read_text()
                time.sleep(0.05)
            pushing.send_signal(signal.SIGINT)
            assert pushing.wait(3) == 130
        finally:
            pushing.kill()
    text = log.read_text()
    assert "   push:m stopped; run doit again to go on\n" in text
    assert text.splitlines()[-1].endswith(", 1 stopped")
    assert not list((project.build / "m").glob(".push*"))


@pytest.mark.needs("docker-registry", "mount")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a small disk")
def test_a_registry_with_a_full_disk_is_said(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.core.image.registry.PAUSES", (0.01, 0.01))
    (tmp_path / "small/data").mkdir(parents=True)
    disk = str(tmp_path / "small/data")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)
    made = registries.start(tmp_path / "small")
    try:
        use(made, monkeypatch)
        with pytest.raises(UserError, match="perhaps its disk is full"):
            ship(recipe)
    finally:
        made.server.stop()
        subprocess.run(["umount", disk], check=True)


@pytest.mark.needs("dockerd", "docker", "docker-registry", "busybox", "curl", "htpasswd")
def test_a_registry_s_refusal_of_the_engine_is_said(
    project: Project,
    password_registry: Registry,
    engine_base: Engine,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    use(password_registry, monkeypatch)
    recipe = for_engine(project)
    with pytest.raises(UserError, match="docker push failed") as failure:
        ship(recipe)
    assert "no basic auth credentials" in str(failure.value)
    log_in(password_registry.host, tmp_path / "docker")
    assert ship(recipe).startswith(password_registry.host)


def test_an_engine_that_is_too_old_is_said(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 17.06.2-ce\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    recipe = for_engine(project)
    with pytest.raises(UserError, match=r"17\.06\.2-ce, too old; install 18\.09 or later"):
        stage.execute("image", STAGES["image"], recipe)


@needs_registry
def test_what_an_image_is_made_of_is_told_beside_it(
    project: Project, recipe: Recipe, registry: Registry
) -> None:
    recipe = project.recipe(
        "m", SCRATCH.replace("scratch", "scratch, attest: [sbom, provenance], modelpack: true")
    )
    digest = ship(recipe).partition("@")[2]
    assert ship(recipe).partition("@")[2] == digest, "pushing it again changes nothing"
    blobs = f"http://{registry.host}/v2/llms/m/blobs"
    index = manifest(registry, f"llms/m:{digest.replace(':', '-')}", INDEX).json()
    told = {}
    for one in index["manifests"]:
        made = manifest(registry, f"llms/m@{one['digest']}").json()
        assert made["subject"]["digest"] == digest
        assert made["artifactType"] == one["artifactType"]
        told[one["artifactType"]] = httpx.get(f"{blobs}/{made['layers'][0]['digest']}").json()
    sbom, provenance = told["application/vnd.cyclonedx+json"], told["application/vnd.in-toto+json"]
    assert {part["name"] for part in sbom["components"] if part["type"] == "file"} == set(FILES)
    assert provenance["subject"][0]["digest"]["sha256"] == digest.removeprefix("sha256:")
    own = provenance["predicate"]["buildDefinition"]["externalParameters"]["recipe"]
    assert own["digest"]["sha256"] == hashlib.sha256(recipe.file.read_bytes()).hexdigest()
    assert str(project.build) not in json.dumps(told)


@needs_registry
def test_the_files_are_a_modelpack_too(
    project: Project, recipe: Recipe, registry: Registry
) -> None:
    ship(project.recipe("m", SCRATCH.replace("scratch", "scratch, modelpack: true")))
    made = manifest(registry, "llms/m:v2.0.1-modelpack").json()
    assert made["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    for layer in made["layers"]:
        name = layer["annotations"]["org.cncf.model.filepath"]
        blob = f"http://{registry.host}/v2/llms/m/blobs/{layer['digest']}"
        assert httpx.get(blob).content == FILES[name]
    assert {layer["annotations"]["org.cncf.model.filepath"] for layer in made["layers"]} == {*FILES}
    kinds = {layer["mediaType"] for layer in made["layers"]}
    assert "application/vnd.cncf.model.weight.v1.raw" in kinds


@needs_registry
def test_a_fresh_push_is_judged_with_two_requests(
    recipe: Recipe, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with faults.proxy(registry.host) as proxy:
        monkeypatch.setenv("MODELWRIGHT_REGISTRY", proxy.host)
        settings.current.cache_clear()
        ship(recipe)
        proxy.seen.clear()
        assert stage.is_fresh("push", push, recipe)
        assert proxy.seen == ["GET /v2/", "HEAD /v2/llms/m/manifests/v2.0.1"]
