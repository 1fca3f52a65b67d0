"""The image in the registry."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
from pathlib import Path

import httpx
import pytest

from tasks import STAGES, push
from tasks.core import layers, settings, stage
from tasks.core.errors import UserError
from tasks.core.recipe import Recipe
from tests.conftest import Project
from tests.services import images
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


def log_in(host: str, folder: Path, password: str = PASSWORD) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    auth = base64.b64encode(f"{USER}:{password}".encode()).decode()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))


def told(files: dict[str, bytes]) -> list[str]:
    lines = {
        f"/data/{name}": hashlib.sha256(content).hexdigest() for name, content in files.items()
    }
    return [f"{digest}  {path}" for path, digest in sorted(lines.items())]


@needs_registry
def test_a_push_keeps_the_tag_and_records_the_digest(recipe: Recipe, registry: Registry) -> None:
    reference = ship(recipe)
    name, digest = reference.split("@")
    assert name == f"{registry.host}/llms/m:v2.0.1"
    answer = httpx.get(
        f"http://{registry.host}/v2/llms/m/manifests/v2.0.1",
        headers={"Accept": OCI},
    )
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
    project.result("m", "base", FILES)
    name = f"{other_registry.host}/vllm/vllm-openai:v0.4.1"
    recipe = project.recipe("m", SCRATCH.replace("scratch, layout: false", f"'{name}'"))
    ship(recipe)
    assert f"base: {name}@{base}" in (project.recipes / "m.lock").read_text()
    made = httpx.get(f"http://{registry.host}/v2/llms/m/manifests/v2.0.1", headers={"Accept": OCI})
    lowest = made.json()["layers"][0]
    assert lowest["digest"] == images.digest(stand_in[2])
    assert lowest["mediaType"] == "application/vnd.oci.image.layer.v1.tar+gzip"
    images.put(other_registry.host, "vllm/vllm-openai", "v0.4.1", images.image(b"\0" * 1024))
    assert stage.is_fresh("image", STAGES["image"], recipe), "the lock holds the base"


@needs_registry
def test_a_base_in_the_same_registry_is_mounted(
    project: Project,
    registry: Registry,
    stand_in: tuple[bytes, bytes, bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images.put(registry.host, "vllm/vllm-openai", "v0.4.1", stand_in)
    project.result("m", "base", FILES)
    name = f"{registry.host}/vllm/vllm-openai:v0.4.1"
    recipe = project.recipe("m", SCRATCH.replace("scratch, layout: false", f"'{name}'"))
    monkeypatch.setattr("tasks.core.registry.Registry.read_blob", refuse_layers(stand_in))
    ship(recipe)


def refuse_layers(image: tuple[bytes, bytes, bytes]) -> object:
    from tasks.core.registry import Registry as Client

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
    project.result("m", "base", FILES)
    name = f"{other_registry.host}/vllm/vllm-openai:v0.4.1"
    reference = ship(project.recipe("m", SCRATCH.replace("scratch, layout: false", f"'{name}'")))
    engine.docker("pull", reference)
    seen = engine.docker("run", "--rm", "--network", "none", reference)
    assert seen.splitlines() == told(FILES)
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
def engine_base(engine: Engine, stand_in: tuple[bytes, bytes, bytes]) -> Engine:
    """An engine that has the stand-in, by no registry."""
    import gzip

    engine.docker("import", "-", "stand-in:v1", text=gzip.decompress(stand_in[2]))
    return engine


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
    monkeypatch.setenv("DOCKER_HOST", engine_base.host)
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
    recipe = project.recipe("m", ENGINE)
    project.result("m", "base", FILES)
    stage.execute("dockerfile", STAGES["dockerfile"], recipe)
    reference = ship(recipe)
    assert sorted(path for path in weights.rglob("*")) == before, "written into the user's folder"
    assert stage.is_fresh("image", STAGES["image"], recipe)
    assert stage.is_fresh("push", push, recipe)
    seen = engine_base.docker(
        "run", "--rm", "--network", "none", "--entrypoint", "python3", reference
    )
    assert seen.splitlines() == told(FILES)
    environ = json.loads(engine_base.docker("inspect", "-f", "{{json .Config.Env}}", reference))
    assert 'GREETING=a "quoted" $word' in environ
    engine_base.docker("rmi", "-f", *engine_base.docker("images", "-q", "llms/m").split())
    assert not stage.is_fresh("image", STAGES["image"], recipe)


@pytest.mark.needs("dockerd", "docker", "curl")
def test_what_the_engine_refuses_is_said(
    project: Project, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", engine.host)
    project.result("m", "base", FILES)
    text = ENGINE.replace("stand-in:v1", "127.0.0.1:9/no/such:v1")
    recipe = project.recipe("m", text)
    stage.execute("dockerfile", STAGES["dockerfile"], recipe)
    with pytest.raises(UserError, match=r"127\.0\.0\.1:9") as failure:
        stage.execute("image", STAGES["image"], recipe)
    assert "docker build failed" in str(failure.value)
    never = project.recipe("m", text.replace("network: none", "network: none, pull: never"))
    with pytest.raises(UserError, match="the engine has no 127"):
        stage.execute("image", STAGES["image"], never)


@pytest.mark.needs("docker")
def test_no_engine_is_said(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{project.build}/none.sock")
    project.result("m", "base", FILES)
    recipe = project.recipe("m", ENGINE)
    stage.execute("dockerfile", STAGES["dockerfile"], recipe)
    with pytest.raises(UserError, match="no Docker engine answers at unix"):
        stage.execute("image", STAGES["image"], recipe)
