"""The model in the model centre's own terms, of d.run: Dataset and ModelSpec.

References: BaizeAI's dataset.baizeai.io/v1alpha1 Dataset and model.hydra.io/v1alpha1 ModelSpec.
"""

from __future__ import annotations

from ..recipe import Recipe
from .description import Description, Object, labels, name, secret, uri


def dataset(recipe: Recipe, model: Description) -> Object:
    """Return the Dataset that copies the bucket's folder onto a volume; keys are in a Secret."""
    options = {"provider": "MINIO", "endpoint": model.endpoint, "region": model.region}
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


def modelspec(recipe: Recipe, model: Description) -> Object:
    """Return the model centre's own description; both hubs are named, as its schema wants."""
    base = recipe.base
    source = base.hub or base.modelscope or recipe.name
    arguments = list(model.arguments)
    deployment = {
        "runtime": "vllm",
        "versionRequired": f">={model.version}",
        "resourceRequirements": {
            "gpuType": "gpu",
            "gpuCount": model.resources.gpus,
            "perGPUMemoryGB": model.resources.gpu_memory,
            "cpu": model.resources.cpu,
            "memory": model.resources.memory,
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
            "id": model.provider.lower(),
            "name": {"enUS": model.provider, "zhCN": model.provider},
        },
        "tags": list(model.tags),
    }
    config = {"config": {"maxTokens": model.context_length}} if model.context_length else {}
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
