"""What the preset chooses, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.core.preset import Choice, Fast, TooLarge, choose, nominal
from tasks.core.preset.devices import Devices
from tasks.core.preset.shape import Shape
from tasks.core.sections import Train

LLAMA = Shape("llama", 32, 4096, 14336, 1024, 128256, tied=False)
LARGE = Shape("llama", 80, 8192, 28672, 1024, 128256, tied=False)
TRAIN: dict[str, Any] = {"prompt_template": "llama3_chat", "max_epochs": 3, "preset": "auto"}


def gpu(gigabytes: int, count: int = 1, name: str = "H100") -> Devices:
    return Devices(count, gigabytes * 10**9, name)


def chosen(devices: Devices, shape: Shape = LLAMA, **train: Any) -> Choice:
    return choose(Train(**{**TRAIN, **train}), shape, devices)


@pytest.mark.parametrize(
    ("devices", "train", "batch", "layers", "stage"),
    [
        (gpu(150), {}, 8, 0, None),
        (gpu(80), {}, 4, 0, None),
        (gpu(40), {}, 1, 0, None),
        (gpu(24), {}, 1, 31, None),
        (gpu(24), {"method": "qlora"}, 1, 0, None),
        (gpu(16), {"method": "qlora"}, 1, 21, None),
        (gpu(80, 4), {"launch": {"processes": 4}}, 4, 0, "zero2"),
        (gpu(150), {"max_length": 8192}, 2, 0, None),
        (gpu(150), {"method": "full"}, 1, 0, "zero2"),
        (gpu(80, 8), {"method": "full", "launch": {"processes": 8}}, 4, 0, "zero2"),
    ],
)
def test_the_batch_fills_the_memory_and_layers_are_computed_twice_only_where_they_must(
    devices: Devices, train: dict[str, Any], batch: int, layers: int, stage: str | None
) -> None:
    found = chosen(devices, **train)
    assert found.fast is not None
    settled = found.train
    assert (settled.batch_size, found.fast.checkpoint_layers) == (batch, layers)
    assert settled.launch.deepspeed == stage
    assert settled.batch_size * settled.accumulative_counts == 16
    assert found.fast.split == batch
    assert found.memory is not None
    assert found.memory.total <= devices.memory


def test_a_model_that_one_device_cannot_hold_is_shared() -> None:
    found = chosen(gpu(80, 4), LARGE, launch={"processes": 4})
    assert found.train.launch.deepspeed == "zero3"


@pytest.mark.parametrize(
    ("devices", "shape", "train", "whole"),
    [
        (gpu(150, 2), LLAMA, {}, 32),
        (gpu(60, 2), LLAMA, {"batch_size": 4}, 11),
        (gpu(80, 4), LARGE, {}, 1),
        (gpu(150, 2), LLAMA, {"launch": {"processes": 2, "deepspeed": "zero2"}}, 0),
        (gpu(150, 2), LLAMA, {"method": "full"}, 0),
    ],
)
def test_layers_that_devices_share_stay_whole_for_a_step_where_there_is_room(
    devices: Devices, shape: Shape, train: dict[str, Any], whole: int
) -> None:
    launch = {"processes": devices.count, "deepspeed": "zero3"}
    found = chosen(devices, shape, **{"launch": launch, **train})
    assert found.fast is not None
    assert found.memory is not None
    assert found.fast.whole_layers == whole
    assert found.memory.total <= devices.memory * 0.95
    assert any("stay whole" in reason for reason in found.reasons) == bool(whole)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dtype", "float16"),
        ("dataloader_num_workers", 1),
        ("pack_to_max_length", False),
        ("max_length", 512),
    ],
)
def test_what_the_recipe_says_stays(key: str, value: Any) -> None:
    assert getattr(chosen(gpu(80), **{key: value}).train, key) == value


@pytest.mark.parametrize("given", [{"batch_size": 2}, {"accumulative_counts": 4}])
def test_a_batch_that_the_recipe_says_stays_whole(given: dict[str, Any]) -> None:
    found = chosen(gpu(150), **given)
    as_written = Train(**{**TRAIN, **given})
    assert found.train.batch_size == as_written.batch_size
    assert found.train.accumulative_counts == as_written.accumulative_counts
    assert found.fast is not None
    assert found.fast.split == 1


@pytest.mark.parametrize(("said", "layers"), [(True, 32), (False, 0)])
def test_checkpointing_that_the_recipe_says_stays(said: bool, layers: int) -> None:
    found = chosen(gpu(150), use_activation_checkpointing=said)
    assert found.fast is not None
    assert found.fast.checkpoint_layers == layers


@pytest.mark.parametrize(
    ("devices", "dtype"),
    [(gpu(80), "bfloat16"), (gpu(32, name="Tesla V100"), "float16"), (Devices(), "float32")],
)
def test_the_dtype_is_what_the_devices_compute_with(devices: Devices, dtype: str) -> None:
    assert chosen(devices).train.dtype == dtype


def test_a_model_whose_attention_is_its_own_trains_xtuner_s_way() -> None:
    found = chosen(gpu(80), Shape("internlm2", 32, 4096, 14336, 1024, 92544, tied=False))
    assert found.fast is None
    assert any("no fast one is known for internlm2" in reason for reason in found.reasons)


def test_what_does_not_fit_is_refused_by_numbers_and_with_what_would() -> None:
    with pytest.raises(TooLarge) as error:
        chosen(gpu(80), LARGE, launch={"deepspeed": None})
    said = str(error.value)
    assert "70.6 billion parameters do not fit: the least that lora takes" in said
    assert "1 x 80 GB H100; train.method: qlora would fit" in said
    assert "`--force`" in said


def test_force_takes_the_smallest_way() -> None:
    train = Train(**{**TRAIN, "launch": {"deepspeed": None}})
    found = choose(train, LARGE, gpu(24), force=True)
    assert found.train.batch_size == 1
    assert found.fast == Fast(79, 1, fused=True)


def test_every_choice_has_its_reason() -> None:
    said = "\n".join(chosen(gpu(80)).reasons)
    for word in ("80 GB H100", "8.0 billion", "dtype", "conversations", "batch_size 4", "deepspeed",
                 "0 of 32 layers", "dataloader_num_workers"):  # fmt: skip
        assert word in said


def test_all_machines_choices_stand_for_the_same_training() -> None:
    assert nominal(Train(**TRAIN)) == nominal(Train(**TRAIN))
    assert nominal(Train(**TRAIN)).train.dtype == "bfloat16"
    plain = Train(prompt_template="llama3_chat", max_epochs=3)
    assert nominal(plain) == Choice(plain)
