"""The model as Kubernetes objects that people can apply, by file name; plain data, no text."""

from __future__ import annotations

from ..recipe import Recipe
from . import centre, workloads
from .description import Description, Object, name

__all__ = ["Description", "Object", "name", "objects"]


def objects(recipe: Recipe, model: Description) -> dict[str, list[Object]]:
    """Return the objects of each file; a way that the recipe does not ask for has no file."""
    served = workloads.service(recipe)
    made = {
        "mount.yaml": [workloads.deployment(recipe, *workloads.mounted(model), model), served],
        "modelspec.yaml": [centre.modelspec(recipe, model)],
    }
    if _runs(recipe):
        made["image.yaml"] = [
            workloads.deployment(recipe, model.image, workloads.WEIGHTS, [], model),
            served,
        ]
    if model.image:
        made["image-volume.yaml"] = [
            workloads.deployment(recipe, *workloads.image_volume(model), model),
            served,
        ]
    if recipe.upload and model.endpoint:
        made["dataset.yaml"] = [centre.dataset(recipe, model)]
    if recipe.upload or _runs(recipe):
        made["inferenceservice.yaml"] = [workloads.inference_service(recipe, model)]
    return dict(sorted(made.items()))


def _runs(recipe: Recipe) -> bool:
    """Return whether the recipe's image holds a server beside the weights."""
    return recipe.image is not None and recipe.image.base != "scratch"
