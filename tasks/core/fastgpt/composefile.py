"""Our compose file for a pinned release of FastGPT, and the images that it names."""

from __future__ import annotations

from collections.abc import Mapping

from .. import pins, render
from ..recipe import Recipe

TEMPLATE = "fastgpt-compose.yaml.j2"
NAME = "docker-compose.yml"
# 4.8.14 is the document's own generation: chat models in config.json.
RELEASE = "v4.8.14"
IMAGES = {
    "pg": "pgvector/pgvector:0.7.0-pg15",
    "mongo": "mongo:5.0.18",
    "sandbox": f"ghcr.io/labring/fastgpt-sandbox:{RELEASE}",
    "fastgpt": f"ghcr.io/labring/fastgpt:{RELEASE}",
    "mysql": "mysql:8.0.36",
    "oneapi": "ghcr.io/songquanpeng/one-api:v0.6.10",
}


def images(recipe: Recipe) -> dict[str, str]:
    """Return the images by service, with the digests that are settled for them."""
    return {service: pins.pinned(recipe, name) for service, name in IMAGES.items()}


def text(images: Mapping[str, str]) -> str:
    """Return the file: FastGPT with pgvector, MongoDB, One API and MySQL."""
    return render.text(TEMPLATE, images=images)
