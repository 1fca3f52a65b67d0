"""What all Kubernetes objects of a model have in common: names, labels, what is known of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ..recipe import Recipe, present
from .resources import Resources

Object = dict[str, Any]


@dataclass(frozen=True)
class Description:
    """What the objects say of a model.

    Attributes:
        image: the model's own image, with digest where it was pushed; empty without one.
        runtime: the image that serves mounted weights.
        mount: the folder on the workers.
        endpoint, region: the S3 server; empty where none is set.
        resources: what a server of the model takes.
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
    resources: Resources


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
    asked = present(recipe.upload)
    parts = [asked.bucket, asked.prefix, recipe.name]
    return f"s3://{'/'.join(part for part in parts if part)}/"


def labels(recipe: Recipe) -> dict[str, str]:
    """Return what tells the model's objects from others."""
    return {"app.kubernetes.io/name": name(recipe.name)}
