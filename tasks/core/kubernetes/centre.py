"""The model in the model centre's own terms, of d.run: Dataset and ModelSpec.

References: BaizeAI's dataset.baizeai.io/v1alpha1 Dataset and model.hydra.io/v1alpha1 ModelSpec.
"""

from __future__ import annotations

from ..recipe import Recipe
from .told import Facts, Object, labels, name, secret, uri


def dataset(recipe: Recipe, facts: Facts) -> Object:
    """Return the Dataset that copies the bucket's folder onto a volume; keys are in a Secret."""
    options = {"provider": "MINIO", "endpoint": facts.endpoint, "region": facts.region}
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


def modelspec(recipe: Recipe, facts: Facts) -> Object:
    """Return the model centre's own description; both hubs are named, as its schema wants."""
    base = recipe.base
    source = base.hub or base.modelscope or recipe.name
    arguments = list(facts.arguments)
    deployment = {
        "runtime": "vllm",
        "versionRequired": f">={facts.version}",
        "resourceRequirements": {
            "gpuType": "gpu",
            "gpuCount": facts.resources.gpus,
            "perGPUMemoryGB": facts.resources.gpu_memory,
            "cpu": facts.resources.cpu,
            "memory": facts.resources.memory,
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
