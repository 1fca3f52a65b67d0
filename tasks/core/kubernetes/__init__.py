"""The model as Kubernetes objects that people can apply, by file name; plain data, no text."""

from __future__ import annotations

from ..recipe import Recipe
from . import centre, workloads
from .told import Facts, Object, name

__all__ = ["Facts", "Object", "name", "objects"]


def objects(recipe: Recipe, facts: Facts) -> dict[str, list[Object]]:
    """Return the objects of each file; a way that the recipe does not ask for has no file."""
    served = workloads.service(recipe)
    made = {
        "mount.yaml": [workloads.deployment(recipe, *workloads.mounted(facts), facts), served],
        "modelspec.yaml": [centre.modelspec(recipe, facts)],
    }
    if _runs(recipe):
        made["image.yaml"] = [
            workloads.deployment(recipe, facts.image, workloads.WEIGHTS, [], facts),
            served,
        ]
    if facts.image:
        made["image-volume.yaml"] = [
            workloads.deployment(recipe, *workloads.image_volume(facts), facts),
            served,
        ]
    if recipe.upload and facts.endpoint:
        made["dataset.yaml"] = [centre.dataset(recipe, facts)]
    if recipe.upload or _runs(recipe):
        made["inferenceservice.yaml"] = [workloads.inference_service(recipe, facts)]
    return dict(sorted(made.items()))


def _runs(recipe: Recipe) -> bool:
    """Return whether the recipe's image holds a server beside the weights."""
    return recipe.image is not None and recipe.image.base != "scratch"
