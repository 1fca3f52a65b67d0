"""What a launch says."""

from __future__ import annotations

import pytest

from tasks.core.serving.serving import Place
from tasks.core.xinference import models
from tests.conftest import Project
from tests.services.served import put

SPEC = {"model_format": "awq", "model_size_in_billions": "0_5", "quantization": "Int4"}


@pytest.mark.parametrize(("way", "devices"), [("local", [1, 3]), ("docker", None)])
def test_a_launch_says_what_the_recipe_and_the_settings_do(
    project: Project, monkeypatch: pytest.MonkeyPatch, way: str, devices: list[int] | None
) -> None:
    """A container has the devices of the settings alone, and numbers them anew."""
    put(monkeypatch, serve_devices="1,3")
    part = "name: shown, model_name: own, engine: sglang, replicas: 2, gpus: 2"
    recipe = project.recipe("m", f"base: {{hub: a/b}}\nserve: {{{part}}}\n")
    assert models.launch_values(recipe, Place("xinference", way, ""), SPEC) == {
        "model_uid": "shown",
        "model_name": "own",
        "model_type": "LLM",
        "model_engine": "sglang",
        "model_format": "awq",
        "model_size_in_billions": "0_5",
        "quantization": "Int4",
        "replica": 2,
        "n_gpu": 2,
        **({"gpu_idx": devices} if devices else {}),
    }
