"""The model as Kubernetes objects that people can apply, by file name; plain data, no text.

References: apps/v1 Deployment and v1 Service; KServe's serving.kserve.io/v1beta1 InferenceService;
BaizeAI's dataset.baizeai.io/v1alpha1 Dataset and model.hydra.io/v1alpha1 ModelSpec, of d.run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from .image.layers import ROOT
from .recipe import Recipe

Object = dict[str, Any]
PORT = 8000
WEIGHTS = f"/{ROOT}"
IMAGE_ROOT = "/model"
# Loading tens of gigabytes may take this long, in probes of ten seconds.
STARTS = 180


@dataclass(frozen=True)
class Facts:
    """What the objects tell.

    Attributes:
        image: the model's own image, with digest where it was pushed; empty without one.
        runtime: the image that serves mounted weights.
        mount: the folder on the workers.
        endpoint, region: the S3 server; empty where none is set.
    """

    image: str
    runtime: str
    mount: str
    endpoint: str
    region: str
    arguments: tuple[str, ...]
    context_length: int | None
    version: str
    tags: tuple[str, ...]
    provider: str


def objects(recipe: Recipe, facts: Facts) -> dict[str, list[Object]]:
    """Return the objects of each file; a way that the recipe does not ask for has no file."""
    made = {
        "mount.yaml": [_deployment(recipe, *_mounted(facts), facts), _service(recipe)],
        "modelspec.yaml": [_modelspec(recipe, facts)],
    }
    if _runs(recipe):
        made["image.yaml"] = [
            _deployment(recipe, facts.image, WEIGHTS, [], facts),
            _service(recipe),
        ]
    if facts.image:
        made["image-volume.yaml"] = [
            _deployment(recipe, *_image_volume(facts), facts),
            _service(recipe),
        ]
    if recipe.upload and facts.endpoint:
        made["dataset.yaml"] = [_dataset(recipe, facts)]
    if recipe.upload or _runs(recipe):
        made["inferenceservice.yaml"] = [_inference_service(recipe, facts)]
    return dict(sorted(made.items()))


def name(model: str) -> str:
    """Return a model's name as Kubernetes takes it for a Service (RFC 1035)."""
    text = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    text = text if text[:1].isalpha() else f"m-{text}"
    return text[:63].rstrip("-")


def secret(recipe: Recipe) -> str:
    """Return the name of the Secret that holds the bucket's `access-key` and `secret-key`."""
    own = recipe.onboard.secret if recipe.onboard else None
    return own or f"{name(recipe.name)[:60]}-s3"


def uri(recipe: Recipe) -> str:
    """Return where the model's files lie in S3."""
    assert recipe.upload is not None
    parts = [recipe.upload.bucket, recipe.upload.prefix, recipe.name]
    return f"s3://{'/'.join(part for part in parts if part)}/"


def _mounted(facts: Facts) -> tuple[str, str, list[Object]]:
    """Return image, folder of the model, and volumes for files mounted into the workers."""
    host = {"path": facts.mount, "type": "Directory"}
    return facts.runtime, WEIGHTS, [{"name": "model", "hostPath": host}]


def _image_volume(facts: Facts) -> tuple[str, str, list[Object]]:
    """Return the same for the model's image as a volume: Kubernetes 1.33 and later."""
    volume = {"reference": facts.image, "pullPolicy": "IfNotPresent"}
    return facts.runtime, f"{IMAGE_ROOT}{WEIGHTS}", [{"name": "model", "image": volume}]


def _deployment(
    recipe: Recipe, image: str, folder: str, volumes: list[Object], facts: Facts
) -> Object:
    labels = _labels(recipe)
    place = IMAGE_ROOT if folder != WEIGHTS else WEIGHTS
    mounts = [{"name": "model", "mountPath": place, "readOnly": True}] if volumes else []
    memory = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}
    container = {
        **_container(recipe, image, folder, facts),
        "volumeMounts": [*mounts, {"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name(recipe.name), "labels": labels},
        "spec": {
            "replicas": 1,
            # Two servers of one model seldom fit on the GPUs side by side.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [container], "volumes": [*volumes, memory]},
            },
        },
    }


def _runs(recipe: Recipe) -> bool:
    """Return whether the recipe's image holds a server beside the weights."""
    return recipe.image is not None and recipe.image.base != "scratch"


def _container(recipe: Recipe, image: str, folder: str, facts: Facts) -> Object:
    gpus = _gpus(recipe)
    probe = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 10}
    # The model's own image names folder and options in its entrypoint.
    named = image == facts.image
    server = {"command": ["python3", "-m", "vllm.entrypoints.openai.api_server"]}
    return {
        "name": "vllm",
        "image": image,
        **({} if named else server),
        "args": [
            *([] if named else [f"--model={folder}", *facts.arguments]),
            f"--served-model-name={recipe.name}",
            *([f"--tensor-parallel-size={gpus}"] if gpus > 1 else []),
        ],
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": {"limits": {"nvidia.com/gpu": str(gpus)}},
        "startupProbe": {**probe, "failureThreshold": STARTS},
        "readinessProbe": {**probe, "failureThreshold": 3},
        "livenessProbe": {**probe, "failureThreshold": 6},
    }


def _service(recipe: Recipe) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name(recipe.name), "labels": _labels(recipe)},
        "spec": {
            "selector": _labels(recipe),
            "ports": [{"name": "http", "port": PORT, "targetPort": "http"}],
        },
    }


def _inference_service(recipe: Recipe, facts: Facts) -> Object:
    """Return KServe's object: from the bucket where there is one, else from the image."""
    limits = {"nvidia.com/gpu": str(_gpus(recipe))}
    if recipe.upload:
        arguments = [f"--model_name={recipe.name}", *facts.arguments]
        predictor: Object = {
            # The ServiceAccount that carries the bucket's Secret, as KServe wants it.
            "serviceAccountName": secret(recipe),
            "model": {
                "modelFormat": {"name": "huggingface"},
                "storageUri": uri(recipe).rstrip("/"),
                "args": arguments,
                "resources": {"limits": limits},
            },
        }
    else:
        container = _container(recipe, facts.image, WEIGHTS, facts)
        # KServe routes to this container by its name.
        predictor = {"containers": [{**container, "name": "kserve-container"}]}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name(recipe.name), "labels": _labels(recipe)},
        "spec": {"predictor": predictor},
    }


def _dataset(recipe: Recipe, facts: Facts) -> Object:
    """Return the Dataset that copies the bucket's folder onto a volume; keys are in a Secret."""
    options = {"provider": "MINIO", "endpoint": facts.endpoint, "region": facts.region}
    return {
        "apiVersion": "dataset.baizeai.io/v1alpha1",
        "kind": "Dataset",
        "metadata": {"name": name(recipe.name), "labels": _labels(recipe)},
        "spec": {
            "dataSyncRound": 1,
            "source": {"type": "S3", "uri": uri(recipe), "options": options},
            "secretRef": secret(recipe),
            "mountOptions": {"path": "/", "mode": "0774", "uid": 1000, "gid": 1000},
        },
    }


def _modelspec(recipe: Recipe, facts: Facts) -> Object:
    """Return the model centre's own description; both hubs are named, as its schema wants."""
    base = recipe.base
    source = base.hub or base.modelscope or recipe.name
    arguments = list(facts.arguments)
    deployment = {
        "runtime": "vllm",
        "versionRequired": f">={facts.version}",
        "resourceRequirements": {
            "gpuType": "gpu",
            "gpuCount": _gpus(recipe),
            "perGPUMemoryGB": 24,
            "cpu": 4,
            "memory": 32,
        },
        "customRuntimeArgs": arguments,
    }
    text = f"{recipe.name}, made from {base.label if base.way != 'path' else 'local weights'}"
    descriptor = {
        "display": recipe.name,
        "description": {"enUS": text, "zhCN": text},
        "icon": {"src": "", "type": "image/svg"},
        "links": [],
        "provider": {
            "id": facts.provider.lower(),
            "name": {"enUS": facts.provider, "zhCN": facts.provider},
        },
        "tags": list(facts.tags),
    }
    config = {"config": {"maxTokens": facts.context_length}} if facts.context_length else {}
    return {
        "apiVersion": "model.hydra.io/v1alpha1",
        "kind": "ModelSpec",
        "metadata": {"name": name(recipe.name)},
        "spec": {
            **config,
            "source": {"huggingface": {"name": source}, "modelscope": {"name": source}},
            "deployments": [deployment],
            "descriptor": descriptor,
        },
    }


def _gpus(recipe: Recipe) -> int:
    return recipe.onboard.gpus if recipe.onboard else 1


def _labels(recipe: Recipe) -> dict[str, str]:
    return {"app.kubernetes.io/name": name(recipe.name)}
