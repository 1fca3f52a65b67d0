"""The estimate stands beside what was measured on an H200 (docs/benchmarks.md)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tasks.core.preset import estimate
from tasks.core.preset.devices import Devices
from tasks.core.preset.estimate import OVERHEAD, Load
from tasks.core.preset.shape import Shape

LLAMA = Shape("llama", 32, 4096, 14336, 1024, 128256, tied=False)
QWEN = Shape("qwen2", 64, 5120, 27648, 1024, 152064, tied=False)
FAST = Load("lora", "bfloat16", 64, 16384, 0, fast=True)
SLOW = replace(FAST, fast=False, dtype="float16")


@pytest.mark.parametrize(
    ("shape", "load", "measured"),
    [
        (LLAMA, replace(FAST, tokens=8192), 56.1),
        (LLAMA, FAST, 93.0),
        (LLAMA, replace(FAST, tokens=24576), 129.9),
        (LLAMA, replace(FAST, recomputed=16), 58.5),
        (LLAMA, replace(FAST, tokens=32768, recomputed=32), 32.3),
        (LLAMA, replace(FAST, tokens=13312), 79.8),
        (LLAMA, replace(FAST, tokens=13312, method="qlora"), 68.7),
        (LLAMA, replace(FAST, tokens=13312, devices=2, deepspeed="zero2"), 79.6),
        (QWEN, replace(FAST, tokens=3328), 119.9),
        (QWEN, replace(FAST, tokens=6656, method="qlora"), 125.8),
        (LLAMA, replace(SLOW, tokens=1664, recomputed=32), 38.7),
        (LLAMA, replace(SLOW, tokens=8192, recomputed=32), 52.0),
        (LLAMA, replace(SLOW, tokens=8192), 129.0),
    ],
)
def test_memory_is_estimated_within_a_tenth(shape: Shape, load: Load, measured: float) -> None:
    # What CUDA takes for itself is not in the measured figures.
    found = (estimate.memory(shape, load).total - OVERHEAD) / 1e9
    assert found == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(
    ("load", "measured"),
    [
        (replace(FAST, tokens=13312), 15863),
        (replace(FAST, recomputed=16), 12841),
        (replace(FAST, tokens=32768, recomputed=32), 10900),
        (replace(FAST, tokens=13312, devices=2, deepspeed="zero2"), 31394),
        (replace(SLOW, tokens=8192), 9503),
        (replace(SLOW, tokens=8192, recomputed=32), 6788),
        (replace(SLOW, tokens=950, recomputed=32, deepspeed="zero3_offload"), 399),
    ],
)
def test_speed_is_estimated_within_a_third(load: Load, measured: float) -> None:
    found = estimate.speed(LLAMA, load, Devices(1, 150 * 10**9, "NVIDIA H200"))
    assert found == pytest.approx(measured, rel=0.34)


def test_devices_share_weights_under_zero_3_only() -> None:
    alone = estimate.memory(QWEN, FAST).weights
    assert estimate.memory(QWEN, replace(FAST, devices=2)).weights == alone
    shared = replace(FAST, devices=2, deepspeed="zero3")
    assert estimate.memory(QWEN, shared).weights == alone / 2


@pytest.mark.parametrize(
    ("changes", "copied"),
    [
        ({"deepspeed": "zero2"}, 0),
        ({}, 1),
        ({"fast": False}, 1),
        ({"recomputed": 16}, 0.5),
        ({"recomputed": 32}, 0),
        ({"dtype": "float32"}, 0),
    ],
)
def test_training_all_weights_takes_sixteen_bytes_of_each_and_copies_in_sixteen_bits(
    changes: dict[str, Any], copied: float
) -> None:
    """DeepSpeed's are 2 that compute, 2 of gradient, 12 of its own; else all four are float32."""
    full = estimate.memory(LLAMA, replace(FAST, method="full", **changes))
    assert full.weights + full.trained == pytest.approx(
        16 * LLAMA.parameters + 2 * LLAMA.linear * copied
    )


def test_float32_weights_leave_wider_activations_and_logits() -> None:
    alone, shared = (
        estimate.memory(LLAMA, replace(FAST, method="full", deepspeed=zero))
        for zero in ("", "zero2")
    )
    assert alone.activations > 1.1 * shared.activations
    assert alone.logits == 2 * shared.logits


def test_an_estimate_says_what_fills_the_memory() -> None:
    assert str(estimate.memory(LLAMA, FAST)) == (
        "96 GB (16.1 weights, 2.7 gradients and optimiser, 73.7 activations, 0.5 logits)"
    )
