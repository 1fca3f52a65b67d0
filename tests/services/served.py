"""A model to serve, and what tests do with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tasks import STAGES, serve
from tasks.core import settings
from tasks.core.engine import shipping, stage
from tasks.core.recipe import Recipe
from tests.conftest import Project

TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
FILES = {
    "config.json": json.dumps(
        {"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 1024}
    ).encode(),
    "tokenizer_config.json": json.dumps(
        {"chat_template": TEMPLATE, "eos_token": "<|eot_id|>"}
    ).encode(),
    "tokenizer.json": b'{"added_tokens": [{"id": 4, "content": "<|eot_id|>"}]}',
}


def put(monkeypatch: pytest.MonkeyPatch, **values: str) -> None:
    """Change settings."""
    for name, value in values.items():
        monkeypatch.setenv(f"MODELWRIGHT_{name.upper()}", value)
    settings.current.cache_clear()


def recipe(
    project: Project, part: str = "size: '0_1'", files: dict[str, bytes] | None = None
) -> Recipe:
    """Return a recipe of a model that is there, with a serve part."""
    if not (project.build / "m/base").exists():
        project.result("m", "base", {**FILES, **(files or {})})
    return project.recipe("m", f"base: {{hub: a/b}}\nserve: {{{part}}}\n")


def ship(recipe: Recipe) -> dict[str, Any]:
    """Serve and return the manifest."""
    stage.execute("serve", serve, recipe)
    path = Path(settings.current().build) / recipe.name / "serve/manifest.json"
    made: dict[str, Any] = json.loads(path.read_text())
    return made


def unship(recipe: Recipe) -> str:
    """Take it away; return what went wrong."""
    done = shipping.unship({"serve": STAGES["serve"]}, recipe)
    return "" if done is None else str(done.get_msg())
