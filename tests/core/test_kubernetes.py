"""The Kubernetes objects, against the published schemas."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft7Validator

from tasks import onboard
from tasks.core import kubernetes, settings
from tasks.core.sources import lockfile
from tests.conftest import Project

MOUNT = "base: {hub: THUDM/chatglm3-6b, trust_remote_code: true}\nonboard: {}\n"
IMAGE = MOUNT + 'image: {base: "vllm/vllm-openai:v0.4.1", repository: llms/m, tag: v1}\n'
BUCKET = MOUNT + "upload: {bucket: llms, prefix: team}\n"
SCRATCH = MOUNT + "image: {base: scratch, repository: llms/m, tag: v1}\n"
VERSION = "1.34"

# The parts that we fill, as the custom resources' own definitions have them; nothing else may be.
TEXT = {"type": "string", "minLength": 1}
LABEL = {"type": "string", "pattern": r"^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$"}


def strict(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def resource(version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    meta = strict(["name"], name=LABEL, labels={"type": "object"})
    return strict(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": version}, kind={"const": kind}, metadata=meta, spec=spec,
    )  # fmt: skip


# BaizeAI/dataset, config/crd/bases/dataset.baizeai.io_datasets.yaml: options are texts.
DATASET = resource(
    "dataset.baizeai.io/v1alpha1",
    "Dataset",
    strict(
        ["source"],
        dataSyncRound={"type": "integer", "minimum": 1},
        source=strict(
            ["type", "uri"],
            type={"const": "S3"},
            uri={"type": "string", "pattern": "^s3://[^/]+/.+/$"},
            options=strict(
                [], provider={"const": "MINIO"}, endpoint=TEXT, region=TEXT, bandwidthLimit=TEXT
            ),
        ),
        secretRef=TEXT,
        mountOptions=strict(
            [],
            path=TEXT,
            mode={"type": "string", "pattern": "^[0-7]{3,4}$"},
            uid={"type": "integer"},
            gid={"type": "integer"},
        ),
    ),
)
# BaizeAI/modelhub, docs/model.jsonschema and api/v1alpha1/modelspec_types.go.
BOTH = strict(["zhCN", "enUS"], zhCN=TEXT, enUS=TEXT)
NUMBERS = ("gpuCount", "perGPUMemoryGB", "cpu", "memory")
MODELSPEC = resource(
    "model.hydra.io/v1alpha1",
    "ModelSpec",
    strict(
        ["source", "deployments", "descriptor"],
        config=strict([], maxTokens={"type": "integer"}),
        source=strict(
            ["modelscope", "huggingface"],
            modelscope=strict(["name"], name=TEXT),
            huggingface=strict(["name"], name=TEXT),
        ),
        deployments={
            "type": "array",
            "items": strict(
                ["runtime", "versionRequired", "resourceRequirements", "customRuntimeArgs"],
                runtime={"enum": ["vllm", "sglang"]},
                versionRequired=TEXT,
                customRuntimeArgs={"type": "array", "items": TEXT},
                resourceRequirements=strict(
                    ["gpuType", *NUMBERS],
                    gpuType={"enum": ["gpu", "vgpu"]},
                    **{name: {"type": "integer", "minimum": 1} for name in NUMBERS},
                ),
            ),
        },
        descriptor=strict(
            ["display", "links", "description", "icon", "provider", "tags"],
            display=TEXT,
            description=BOTH,
            links={"type": "array"},
            icon=strict(["src", "type"], src={"type": "string"}, type=TEXT),
            provider=strict(["id", "name"], id=TEXT, name=BOTH),
            tags={"type": "array", "items": {"enum": ["TEXT_GENERATION", "IMAGE_TO_TEXT"]}},
        ),
    ),
)
# kserve/kserve, pkg/apis/serving/v1beta1: PredictorSpec is a PodSpec with `model` beside it.
MODEL = strict(
    ["modelFormat"],
    modelFormat=strict(["name"], name={"const": "huggingface"}),
    storageUri={"type": "string", "pattern": "^s3://[^/]+/.*[^/]$"},
    args={"type": "array", "items": TEXT},
    resources={"type": "object"},
)
INFERENCE = resource(
    "serving.kserve.io/v1beta1",
    "InferenceService",
    strict(
        ["predictor"],
        predictor=strict(
            [], model=MODEL, serviceAccountName=TEXT, containers={"type": "array", "maxItems": 1}
        ),
    ),
)
SCHEMAS = {"Dataset": DATASET, "ModelSpec": MODELSPEC, "InferenceService": INFERENCE}


@pytest.fixture(autouse=True)
def server(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELWRIGHT_S3_ENDPOINT", "http://s3.local:9000")
    monkeypatch.setenv("MODELWRIGHT_S3_SECRET_KEY", "s3cret")
    monkeypatch.setenv("MODELWRIGHT_REGISTRY", "registry.local")
    settings.current.cache_clear()


def files(project: Project, text: str, name: str = "m") -> dict[str, list[dict[str, Any]]]:
    """Return what is in the files that the stage writes."""
    folder = project.build / "out"
    folder.mkdir(parents=True)
    onboard.run(project.recipe(name, text), folder)
    return {
        path.name: list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
        for path in sorted((folder / "kubernetes").iterdir())
    }


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (MOUNT, ["modelspec", "mount"]),
        (IMAGE, ["image-volume", "image", "inferenceservice", "modelspec", "mount"]),
        (BUCKET, ["dataset", "inferenceservice", "modelspec", "mount"]),
        (SCRATCH, ["image-volume", "modelspec", "mount"]),
    ],
)
def test_every_object_passes_its_published_schema(
    project: Project, text: str, names: list[str]
) -> None:
    made = files(project, text)
    assert list(made) == [f"{name}.yaml" for name in names]
    for thing in itertools.chain.from_iterable(made.values()):
        if thing["kind"] in SCHEMAS:
            Draft7Validator(SCHEMAS[thing["kind"]]).validate(thing)
        else:
            kubernetes_validate.validate(thing, VERSION, strict=True)
        for container in thing["spec"].get("predictor", {}).get("containers", ()):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "m"}}
            kubernetes_validate.validate(
                {**pod, "spec": {"containers": [container]}}, VERSION, strict=True
            )


def test_the_schemas_refuse_what_is_wrong(project: Project) -> None:
    thing = files(project, BUCKET)["dataset.yaml"][0]
    thing["spec"]["source"]["type"] = "s3"
    assert not Draft7Validator(DATASET).is_valid(thing)


def test_a_deployment_serves_the_mounted_folder(project: Project) -> None:
    deployment, service = files(project, MOUNT + "\n", "chatglm3-6b")["mount.yaml"]
    pod = deployment["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["volumes"][0]["hostPath"]["path"] == "/root/llms/chatglm3-6b"
    assert container["volumeMounts"][0] == {"name": "model", "mountPath": "/data", "readOnly": True}
    assert container["args"] == [
        "--model=/data",
        "--trust-remote-code",
        "--served-model-name=chatglm3-6b",
    ]
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": "http"}


def test_an_image_brings_its_own_entrypoint_and_digest(project: Project) -> None:
    digest = f"registry.local/llms/m:v1@sha256:{'a' * 64}\n"
    project.result("m", "push", {"reference": digest.encode()})
    made = files(project, IMAGE)
    container = made["image.yaml"][0]["spec"]["template"]["spec"]["containers"][0]
    assert container["image"] == digest.strip()
    assert "command" not in container
    assert container["args"] == ["--served-model-name=m"]
    pod = made["image-volume.yaml"][0]["spec"]["template"]["spec"]
    assert pod["volumes"][0]["image"]["reference"] == digest.strip()
    assert pod["containers"][0]["image"] == "vllm/vllm-openai:v0.4.1"
    assert "--model=/model/data" in pod["containers"][0]["args"]


def test_a_digest_of_another_name_is_not_taken(project: Project) -> None:
    project.result("m", "push", {"reference": b"registry.local/llms/m:v0@sha256:00\n"})
    found = onboard.image(project.recipe("m", IMAGE))
    assert found
    assert found["reference"] == "registry.local/llms/m:v1"


def test_the_dataset_reads_the_bucket_with_a_secret_by_name(project: Project) -> None:
    text = BUCKET.replace("onboard: {}", "onboard: {secret: minio}")
    made = files(project, text)
    assert made["dataset.yaml"][0]["spec"] == {
        "dataSyncRound": 1,
        "source": {
            "type": "S3",
            "uri": "s3://llms/team/m/",
            "options": {
                "provider": "MINIO",
                "endpoint": "http://s3.local:9000",
                "region": "us-east-1",
            },
        },
        "secretRef": "minio",
        "mountOptions": {"path": "/", "mode": "0774", "uid": 1000, "gid": 1000},
    }
    model = made["inferenceservice.yaml"][0]["spec"]["predictor"]["model"]
    assert model["storageUri"] == "s3://llms/team/m"


def test_no_key_is_in_any_file(project: Project) -> None:
    files(project, BUCKET)
    for path in Path(project.build).rglob("*.yaml"):
        assert "s3cret" not in path.read_text(encoding="utf-8")


NEEDS = "spec", "deployments", 0, "resourceRequirements"


def needs(made: dict[str, list[dict[str, Any]]]) -> list[int]:
    found: Any = made["modelspec.yaml"][0]
    for step in NEEDS:
        found = found[step]
    return [found[number] for number in NUMBERS]


def test_a_server_s_needs_follow_from_the_weights_size(project: Project) -> None:
    recipe = project.recipe("m", MOUNT)
    sizes = {"a.safetensors": 12_000_000_000, "b.safetensors": 500_000_000}
    # The same weights again: in another form, for other programs.
    sizes |= dict.fromkeys(["x.bin", "consolidated.safetensors", "original/a.safetensors"], 10**12)
    lockfile.update(recipe, "base", files={name: {"size": n} for name, n in sizes.items()})
    assert needs(files(project, MOUNT)) == [1, 17, 4, 21]


def test_the_recipe_s_word_on_a_server_s_needs_counts(project: Project) -> None:
    text = IMAGE.replace("onboard: {}", "onboard: {gpus: 2, gpu_memory: 80, cpu: 16, memory: 200}")
    made = files(project, text)
    assert needs(made) == [2, 80, 16, 200]
    for name in ("mount", "image", "inferenceservice"):
        text = yaml.safe_dump(made[f"{name}.yaml"][0])
        assert re.search(r"requests:\s+cpu: '16'\s+memory: 200G", text)


def test_without_a_word_nothing_is_requested_beside_gpus(project: Project) -> None:
    (project.build / "m/base").mkdir(parents=True)
    with (project.build / "m/base/model.safetensors").open("wb") as file:
        file.truncate(3_000_000_000)
    made = files(project, IMAGE)
    assert needs(made) == [1, 6, 4, 11]
    assert "requests" not in yaml.safe_dump_all(itertools.chain(*made.values()))


def test_several_gpus_are_asked_for_and_used(project: Project) -> None:
    made = files(project, MOUNT.replace("onboard: {}", "onboard: {gpus: 4}"))
    container = made["mount.yaml"][0]["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "4"}
    assert "--tensor-parallel-size=4" in container["args"]


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("chatglm3-6b", "chatglm3-6b"),
        ("qwen2.5_7b", "qwen2-5-7b"),
        ("01-ai", "m-01-ai"),
        ("x" * 80, "x" * 63),
    ],
)
def test_a_model_s_name_becomes_one_that_kubernetes_takes(model: str, name: str) -> None:
    assert kubernetes.name(model) == name
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
