"""The model in the model centre's own terms, of d.run: Dataset and ModelSpec.

References: BaizeAI's dataset.baizeai.io/v1alpha1 Dataset and model.hydra.io/v1alpha1 ModelSpec.
"""

from __future__ import annotations

from ..recipe import Recipe
from .told import Object, Told, labels, name, secret, uri


def dataset(recipe: Recipe, told: Told) -> Object:
    """Return the Dataset that copies the bucket's folder onto a volume; keys are in a Secret."""
    options = {"provider": "MINIO", "endpoint": told.endpoint, "region": told.region}
    return {
        "apiVersion": "dataset.baizeai.io/v1alpha1",
        "kind": "Dataset",
        "metadata": {"name": name(recipe.name), "labels": labels(recipe)},
        "spec": {
            "dataSyncRound": 1,
            "source": {"type": "S3", "uri": uri(recipe), "options": options},
            "secretRef": secret(recipe),
            "mountOptions": {"path": "/", "mode": "0774", "uid": 1000, "gid": 1000},
        },
    }


def modelspec(recipe: Recipe, told: Told) -> Object:
    """Return the model centre's own description; both hubs are named, as its schema wants."""
    base = recipe.base
    source = base.hub or base.modelscope or recipe.name
    arguments = list(told.arguments)
    deployment = {
        "runtime": "vllm",
        "versionRequired": f">={told.version}",
        "resourceRequirements": {
            "gpuType": "gpu",
            "gpuCount": told.resources.gpus,
            "perGPUMemoryGB": told.resources.gpu_memory,
            "cpu": told.resources.cpu,
            "memory": told.resources.memory,
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
            "id": told.provider.lower(),
            "name": {"enUS": told.provider, "zhCN": told.provider},
        },
        "tags": list(told.tags),
    }
    config = {"config": {"maxTokens": told.context_length}} if told.context_length else {}
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
