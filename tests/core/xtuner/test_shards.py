"""Frozen layers that processes share, against DeepSpeed's own way; two processes, no devices."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tasks.core.launching import local

CHECK = Path(__file__).with_name("shards_check.py")
BASE = Path("recipes/tiny-agent/base").absolute()


@pytest.fixture(scope="module")
def found(deepspeed: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    pieces = tmp_path_factory.mktemp("pieces")
    torchrun = (deepspeed, "-m", "torch.distributed.run", "--nproc-per-node=2", *local.HERE)
    done = subprocess.run(
        [*torchrun, str(CHECK), str(BASE), str(pieces)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith('{"gathered"'))
    return dict(json.loads(line))


@pytest.mark.slow
def test_what_is_learned_is_what_deepspeed_alone_teaches(found: dict[str, Any]) -> None:
    """To the last digit, over rows of several lengths, accumulated and with dropout."""
    assert found["copied"]["losses"] == found["gathered"]["losses"]
    assert found["copied"]["learned"] == found["gathered"]["learned"]


@pytest.mark.slow
def test_a_checkpoint_is_gone_on_from_as_if_nothing_had_been(found: dict[str, Any]) -> None:
    assert found["copied, all"]["losses"] == found["copied"]["losses"]
    assert found["copied, all"]["learned"] == found["copied"]["learned"]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["gathered", "copied"])
def test_weights_alone_are_gone_on_from_with_a_new_optimiser(
    found: dict[str, Any], way: str
) -> None:
    undisturbed, resumed = found[way]["losses"], found[f"{way}, weights"]["losses"]
    # Two losses make a step: the third step is the first with the optimiser's memory gone.
    assert resumed[:6] == undisturbed[:6]
    assert resumed[6:] != undisturbed[6:]
    assert resumed == found["gathered, weights"]["losses"]


@pytest.mark.slow
def test_no_layer_stays_whole_after_a_step(found: dict[str, Any]) -> None:
    # Adapters alone, and between steps of the optimiser the embedding, which is DeepSpeed's.
    trained, embedding = 51200, 1536 * 128
    assert set(found["copied"]["held"][1:]) == {trained, trained + embedding}
    assert min(found["gathered"]["held"][1:]) > trained + embedding
