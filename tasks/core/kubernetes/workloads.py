"""What serves the model in a cluster: Deployment, Service, and KServe's InferenceService.

References: apps/v1, v1, serving.kserve.io/v1beta1.
"""

from __future__ import annotations

from ..image.layers import ROOT
from ..recipe import Recipe
from .description import Description, Object, labels, name, secret, uri

PORT = 8000
WEIGHTS = f"/{ROOT}"
IMAGE_ROOT = "/model"
# Loading tens of gigabytes may take this long, in probes of ten seconds.
STARTS = 180


def mounted(model: Description) -> tuple[str, str, list[Object]]:
    """Return image, folder of the model, and volumes for files mounted into the workers."""
    host = {"path": model.mount, "type": "Directory"}
    return model.runtime, WEIGHTS, [{"name": "model", "hostPath": host}]


def image_volume(model: Description) -> tuple[str, str, list[Object]]:
    """Return the same for the model's image as a volume: Kubernetes 1.33 and later."""
    volume = {"reference": model.image, "pullPolicy": "IfNotPresent"}
    return model.runtime, f"{IMAGE_ROOT}{WEIGHTS}", [{"name": "model", "image": volume}]


def deployment(
    recipe: Recipe, image: str, folder: str, volumes: list[Object], model: Description
) -> Object:
    """Return what runs vLLM on the model in a folder of the container."""
    named = labels(recipe)
    place = IMAGE_ROOT if folder != WEIGHTS else WEIGHTS
    mounts = [{"name": "model", "mountPath": place, "readOnly": True}] if volumes else []
    memory = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "8Gi"}}
    container = {
        **_container(recipe, image, folder, model),
        "volumeMounts": [*mounts, {"name": "shm", "mountPath": "/dev/shm"}],  # noqa: S108
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name(recipe.name), "labels": named},
        "spec": {
            "replicas": 1,
            # Two servers of one model seldom fit on the GPUs side by side.
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": named},
            "template": {
                "metadata": {"labels": named},
                "spec": {"containers": [container], "volumes": [*volumes, memory]},
            },
        },
    }


def _container(recipe: Recipe, image: str, folder: str, model: Description) -> Object:
    gpus = model.resources.gpus
    probe = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 10}
    # The model's own image names folder and options in its entrypoint.
    named = image == model.image
    server = {"command": ["python3", "-m", "vllm.entrypoints.openai.api_server"]}
    return {
        "name": "vllm",
        "image": image,
        **({} if named else server),
        "args": [
            *([] if named else [f"--model={folder}", *model.arguments]),
            f"--served-model-name={recipe.name}",
            *([f"--tensor-parallel-size={gpus}"] if gpus > 1 else []),
        ],
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": _resources(recipe, gpus),
        "startupProbe": {**probe, "failureThreshold": STARTS},
        "readinessProbe": {**probe, "failureThreshold": 3},
        "livenessProbe": {**probe, "failureThreshold": 6},
    }


def _resources(recipe: Recipe, gpus: int) -> Object:
    """Return the GPUs, and what the recipe asks for beside them; a guess is no request."""
    own = recipe.onboard
    asked = {"cpu": str(own.cpu)} if own and own.cpu else {}
    asked |= {"memory": f"{own.memory}G"} if own and own.memory else {}
    limits = {"nvidia.com/gpu": str(gpus)}
    return {"limits": limits, **({"requests": asked} if asked else {})}


def service(recipe: Recipe) -> Object:
    """Return the address of what serves the model."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name(recipe.name), "labels": labels(recipe)},
        "spec": {
            "selector": labels(recipe),
            "ports": [{"name": "http", "port": PORT, "targetPort": "http"}],
        },
    }


def inference_service(recipe: Recipe, model: Description) -> Object:
    """Return KServe's object: from the bucket where there is one, else from the image."""
    if recipe.upload:
        arguments = [f"--model_name={recipe.name}", *model.arguments]
        predictor: Object = {
            # The ServiceAccount that carries the bucket's Secret, as KServe wants it.
            "serviceAccountName": secret(recipe),
            "model": {
                "modelFormat": {"name": "huggingface"},
                "storageUri": uri(recipe).rstrip("/"),
                "args": arguments,
                "resources": _resources(recipe, model.resources.gpus),
            },
        }
    else:
        container = _container(recipe, model.image, WEIGHTS, model)
        # KServe routes to this container by its name.
        predictor = {"containers": [{**container, "name": "kserve-container"}]}
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": name(recipe.name), "labels": labels(recipe)},
        "spec": {"predictor": predictor},
    }
