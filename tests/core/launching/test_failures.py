"""Which keys to lower after a failure, and by how much; which of the log's last words matter."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.core.launching import failures
from tasks.core.sections import Train

TRAIN: dict[str, Any] = {
    "prompt_template": "llama3_chat", "max_iters": 10, "use_activation_checkpointing": True,
    "max_length": 2048, "batch_size": 1, "accumulative_counts": 16,
}  # fmt: skip
OOM = "torch.OutOfMemoryError: HIP out of memory."


def advice(text: str, **keys: Any) -> str:
    return "\n".join(failures.advise(text, Train(**{**TRAIN, **keys})))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"use_activation_checkpointing": False}, "train.use_activation_checkpointing: true"),
        ({"batch_size": 3}, "train.batch_size: 1 and accumulative_counts: 48, now 3 and 16"),
        ({}, "train.max_length: 1536, now 2048"),
        ({}, "train.launch.deepspeed: zero2_offload, now none"),
        ({"launch": {"processes": 4}}, "train.launch.deepspeed: zero2, now none"),
        (
            {"launch": {"processes": 4, "deepspeed": "zero3"}},
            "train.launch.deepspeed: zero3_offload, now zero3",
        ),
        ({"method": "full"}, "train.method: lora, now full"),
    ],
)
def test_a_full_device_is_told_which_keys_to_lower_and_by_how_much(
    keys: dict[str, Any], said: str
) -> None:
    assert f"  {said}" in advice(OOM, **keys)


def test_what_is_at_its_least_is_not_named() -> None:
    text = advice(OOM, launch={"deepspeed": "zero3_offload"}, method="qlora")

    assert "batch_size" not in text
    assert "deepspeed" not in text
    assert "method" not in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("OSError: [Errno 28] No space left on device", "no checkpoint that was there is lost"),
        (
            "RuntimeError: [enforce fail at inline_container.cc:672] . unexpected pos 7",
            "disk is full",
        ),
        ("RuntimeError: ... EADDRINUSE", "MODELWRIGHT_RENDEZVOUS_PORT"),
        ("DistStoreError: waiting for clients. 1/2 clients joined.", "not all nodes came"),
        ("RuntimeError: Connection closed by peer [10.0.0.2]", "a process or a node went away"),
        ("RuntimeError: Ninja is required to load C++ extensions", "install g++ and ninja"),
        ("ValueError: something else", ""),
    ],
)
def test_known_failures_are_told_their_cure(text: str, said: str) -> None:
    assert (said in advice(text)) if said else advice(text) == ""


def test_a_killed_process_points_at_the_hosts_memory() -> None:
    train = Train(
        **{**TRAIN, "dataloader_num_workers": 4, "launch": {"deepspeed": "zero3_offload"}}
    )
    said = "\n".join(failures.killed("exitcode  : -9 (pid: 5)", train, 1))

    assert "train.dataloader_num_workers: 2, now 4" in said
    assert "train.launch.deepspeed: zero3, now zero3_offload" in said
    assert failures.killed("all is well", train, 1) == []


def test_the_cause_is_shown_and_not_those_who_fell_with_it() -> None:
    lines = [
        "[rank1]: ValueError: the cause",
        "[rank0]: RuntimeError: Connection closed by peer",
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError:",
        "  exitcode  : 1 (pid: 77)",
    ]

    assert failures.last_words(lines) == lines[:1]
    assert failures.last_words(["one", "", "two"]) == ["one", "two"]
