"""What is to be trained: the batch that the optimiser sees, the command line, what cannot work."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.core.errors import UserError
from tests.conftest import Project

from .jobs import job, pretend


@pytest.mark.parametrize(
    ("launch", "keys", "said"),
    [
        ("processes: 1", {}, "1 device x batch 1 x 2 = 2 samples a step"),
        ("processes: 4", {"accumulative_counts": 16}, "4 devices x batch 1 x 16 = 64 samples"),
        ("processes: 4, nodes: 6", {}, "24 devices on 6 nodes x batch 1 x 2 = 48 samples"),
    ],
)
def test_the_shape_says_how_the_batch_comes_about(
    project: Project, launch: str, keys: dict[str, Any], said: str
) -> None:
    assert job(project, launch, **keys).shape().startswith(said)


def test_devices_that_share_a_sequence_leave_the_batch_as_it_is(project: Project) -> None:
    shared = job(project, "processes: 4, deepspeed: zero2", sequence_parallel_size=2)
    alone = job(project, "processes: 4", name="alone")

    assert shared.effective_batch == alone.effective_batch


def test_one_process_needs_no_torchrun_and_deepspeed_does(project: Project) -> None:
    assert "--launcher" not in job(project).words()
    words = job(project, "deepspeed: zero3_offload", name="z").words()
    assert words[-2:] == ["--deepspeed", "deepspeed_zero3_offload"]


def test_a_file_of_deepspeeds_settings_lies_beside_the_recipe(project: Project) -> None:
    words = job(project, "deepspeed: own.json").words()

    assert words[-2:] == ["--deepspeed", str(project.recipes / "m" / "own.json")]


@pytest.mark.parametrize(
    ("launch", "size", "said"),
    [
        ("processes: 3, deepspeed: zero2", 2, "3 devices cannot be shared out"),
        ("processes: 2", 2, "needs DeepSpeed; say `launch: {deepspeed: zero2}`"),
    ],
)
def test_a_shared_sequence_that_cannot_work_is_refused(
    project: Project, launch: str, size: int, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        job(project, launch, sequence_parallel_size=size).check()


@pytest.mark.parametrize(
    ("config", "varlen", "needed"),
    [
        ({"model_type": "llama"}, False, False),
        ({"model_type": "qwen2", "use_sliding_window": False}, False, False),
        ({"model_type": "qwen2", "use_sliding_window": True}, False, True),
        ({"model_type": "mistral"}, False, True),
        ({"model_type": "llama"}, True, True),
    ],
)
def test_a_shared_sequence_needs_flash_attn_only_where_torch_has_no_kernel_for_it(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    config: dict[str, Any],
    varlen: bool,
    needed: bool,
) -> None:
    pretend(project, monkeypatch, "")
    project.result("m", "base", {"config.json": json.dumps(config).encode()})
    launch = "processes: 2, deepspeed: zero2"
    shared = job(project, launch, sequence_parallel_size=2, use_varlen_attn=varlen)
    if not needed:
        shared.check()
        return
    with pytest.raises(UserError, match="train needs flash-attn"):
        shared.check()


def test_a_given_python_without_deepspeed_is_named(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pretend(project, monkeypatch, "")
    path.write_text(path.read_text().replace("deepspeed", "other"))

    with pytest.raises(UserError, match=f"train needs deepspeed, and {path} has none"):
        job(project, "deepspeed: zero2").check()


def test_a_stage_of_deepspeeds_that_there_is_not_is_refused(project: Project) -> None:
    with pytest.raises(Exception, match=r"train.launch.deepspeed: should be zero1, .* or a .json"):
        job(project, "deepspeed: zero4")
