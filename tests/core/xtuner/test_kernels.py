"""The kernels compute what is written in plain products, whatever the tiles."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHECK = Path(__file__).with_name("kernel_check.py")


@pytest.fixture(scope="module")
def found(xtuner: str) -> dict[str, Any]:
    done = subprocess.run([xtuner, str(CHECK)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def exact(found: dict[str, Any]) -> float:
    """Return how far sums may be apart: bfloat16 rounds on a GPU."""
    return 4e-3 if found["on"] == "cuda" else 1e-5


@pytest.mark.parametrize("kernel", ["down", "grad", "up"])
def test_dropout_inside_a_product_is_dropout_before_it(found: dict[str, Any], kernel: str) -> None:
    shapes = [value for name, value in found.items() if name.startswith("adapters")]
    assert len(shapes) > 1
    for shape in shapes:
        assert shape[kernel] < exact(found)


def test_a_mask_drops_its_share_and_another_seed_others(found: dict[str, Any]) -> None:
    for name in ("adapters (70, 200, 8)", "adapters (1100, 130, 20)"):
        assert found[name]["kept"] == pytest.approx(0.7, abs=0.015)
        assert found[name]["same as another seed"] == pytest.approx(0.7**2 + 0.3**2, abs=0.015)


@pytest.mark.parametrize("what", ["loss", "grad"])
def test_the_loss_over_a_large_vocabulary_is_cross_entropy(
    found: dict[str, Any], what: str
) -> None:
    assert found["cross entropy"][what] < exact(found)
