"""The fast way computes what xtuner's own does: the same losses, the same gradients."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHECK = Path(__file__).with_name("fast_check.py")


KINDS = ("llama", "mistral", "qwen2")


@pytest.fixture(scope="module")
def compared(xtuner: str) -> dict[str, Any]:
    done = subprocess.run([xtuner, str(CHECK), *KINDS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(params=KINDS)
def found(compared: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(compared[request.param])


@pytest.mark.parametrize("way", ["lora 0", "lora 2", "full 0", "full 2"])
def test_a_packed_row_learns_what_its_conversations_teach_one_by_one(
    found: dict[str, Any], way: str
) -> None:
    slow, fast, apart = found[way]
    assert fast == pytest.approx(slow, rel=1e-6)
    assert apart < 1e-5


@pytest.mark.parametrize("what", ["one batch", "rows left"])
def test_a_batch_that_the_recipe_says_weighs_tokens_as_xtuner_does(
    found: dict[str, Any], what: str
) -> None:
    slow, fast, apart = found[what]
    assert fast == pytest.approx(slow, rel=1e-6)
    assert apart < 1e-5


@pytest.mark.parametrize("size", [2, 4])
def test_steps_go_over_the_ends_of_epochs_as_accumulation_does(
    found: dict[str, Any], size: int
) -> None:
    assert found[f"epochs {size}"] < 1e-4


def test_a_layer_computed_twice_drops_the_same_twice(found: dict[str, Any]) -> None:
    once, twice, apart = found["dropout again"]
    assert (once, apart) == (twice, 0)
    assert found["dropout does something"] > 1e-4


def test_a_model_speaks_as_before_while_it_trains(found: dict[str, Any]) -> None:
    assert found["says"][0] == found["says"][1]


PACK = """
import json, sys
sys.path.append(sys.argv[1])
import fast_data
batch = json.loads(sys.argv[2])
print(json.dumps(fast_data.pack(batch, int(sys.argv[3]))))
"""


def test_a_model_is_switched_to_training_whoever_switched_it_off(found: dict[str, Any]) -> None:
    assert found["modes"] == [False, True, True, False, True, False]


def test_packing_cuts_nothing_and_loses_nothing(xtuner: str) -> None:
    lengths = [5, 17, 9, 30, 1, 12, 32, 3]
    ids = [[100 * n + i for i in range(length)] for n, length in enumerate(lengths)]
    batch = json.dumps({"input_ids": ids, "labels": ids})
    folder = str(Path(__file__).resolve().parents[3] / "tasks" / "core" / "xtuner")
    done = subprocess.run(
        [xtuner, "-c", PACK, folder, batch, "32"], capture_output=True, text=True, check=True
    )
    packed = json.loads(done.stdout)
    found = []
    for row, spans in zip(packed["input_ids"], packed["spans"], strict=True):
        assert sum(spans) == len(row) <= 32
        at = 0
        for span in spans:
            found.append(row[at : at + span])
            at += span
    assert sorted(found) == sorted(ids)
    # 109 tokens: no fewer than four rows of 32 hold them.
    assert len(packed["spans"]) == 4
    assert packed["labels"] == packed["input_ids"]
