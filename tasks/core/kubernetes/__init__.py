"""The model as Kubernetes objects that people can apply, by file name; plain data, no text."""

from __future__ import annotations

from ..recipe import Recipe
from . import centre, workloads
from .told import Object, Told, name

__all__ = ["Object", "Told", "name", "objects"]


def objects(recipe: Recipe, told: Told) -> dict[str, list[Object]]:
    """Return the objects of each file; a way that the recipe does not ask for has no file."""
    served = workloads.service(recipe)
    made = {
        "mount.yaml": [workloads.deployment(recipe, *workloads.mounted(told), told), served],
        "modelspec.yaml": [centre.modelspec(recipe, told)],
    }
    if _runs(recipe):
        made["image.yaml"] = [
            workloads.deployment(recipe, told.image, workloads.WEIGHTS, [], told),
            served,
        ]
    if told.image:
        made["image-volume.yaml"] = [
            workloads.deployment(recipe, *workloads.image_volume(told), told),
            served,
        ]
    if recipe.upload and told.endpoint:
        made["dataset.yaml"] = [centre.dataset(recipe, told)]
    if recipe.upload or _runs(recipe):
        made["inferenceservice.yaml"] = [workloads.inference_service(recipe, told)]
    return dict(sorted(made.items()))


def _runs(recipe: Recipe) -> bool:
    """Return whether the recipe's image holds a server beside the weights."""
    return recipe.image is not None and recipe.image.base != "scratch"
