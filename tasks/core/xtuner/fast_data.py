"""Batches without padding: conversations lie end to end in one row.

Part of the programs that run inside the xtuner toolchain.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.dataset import DefaultSampler

IGNORED = -100
# Rows that are packed together; xtuner's own packing looks at as many.
WINDOW = 1000
# Rows that are worth a process of their own.
LEAST = 2000


def process(
    dataset: Any, *, pack_to_max_length: bool, shuffle_before_pack: bool, **options: Any
) -> Any:
    """Return a dataset as xtuner makes it; packed, its rows are whole conversations."""
    from xtuner.dataset import process_hf_dataset
    from xtuner.registry import BUILDER

    raw = BUILDER.build(dataset)
    # Without xtuner's packing, how many processes share the work changes nothing but the time.
    processes = max(1, min(len(os.sched_getaffinity(0)), len(raw) // LEAST))
    made = process_hf_dataset(raw, pack_to_max_length=False, map_num_proc=processes, **options)
    if not pack_to_max_length:
        return made
    if shuffle_before_pack:
        made = made.shuffle().flatten_indices()
    return made.map(
        pack,
        batched=True,
        batch_size=WINDOW,
        remove_columns=made.column_names,
        fn_kwargs={"max_length": options["max_length"]},
    )


def pack(batch: dict[str, list[list[int]]], max_length: int) -> dict[str, list[Any]]:
    """Lay conversations together, none of them cut, no row longer than `max_length`.

    The longest come first, each into the fullest row that still has room; rows stay in the order
    of their first conversation, so that no order of lengths is learned.
    """
    lengths = [len(ids) for ids in batch["input_ids"]]
    rows: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda n: (-lengths[n], n)):
        fits = [row for row, free in enumerate(room) if free >= lengths[number]]
        if fits:
            row = min(fits, key=lambda r: (room[r], r))
        else:
            row = len(rows)
            rows.append([])
            room.append(max_length)
        rows[row].append(number)
        room[row] -= lengths[number]
    rows = sorted(sorted(row) for row in rows)
    joined = {
        name: [[value for n in row for value in batch[name][n]] for row in rows]
        for name in ("input_ids", "labels")
    }
    spans = [[lengths[n] for n in row] for row in rows]
    return {**joined, "spans": spans}


class Epochs(DefaultSampler):  # type: ignore[misc]  # mmengine is untyped
    """All epochs end to end, each in the order that mmengine gives it.

    A batch that stands for several goes over the end of an epoch as their accumulation would.
    """

    def __init__(self, *args: Any, count: int, **options: Any) -> None:
        super().__init__(*args, **options)
        self.count = count

    def __iter__(self) -> Iterator[int]:
        for epoch in range(self.count):
            self.set_epoch(epoch)
            yield from super().__iter__()

    def __len__(self) -> int:
        return self.count * int(super().__len__())


def collate(rows: Sequence[dict[str, Any]], part: int | None = None) -> dict[str, Any]:
    """Return one row for the model out of a batch.

    Tokens that something is learned from have a target, the next one of the same conversation, and
    a weight in the loss.
    A batch may stand for several smaller ones, one after the other, as accumulation would have
    them: then each of those weighs the same, however many targets it has.  Only the last batch of
    all may be made of fewer.

    Args:
        part: how many rows are one of those; all of them where it is not said.
    """
    spans = [span for row in rows for span in row.get("spans") or [len(row["input_ids"])]]
    ids = torch.tensor([i for row in rows for i in row["input_ids"]])
    labels = torch.tensor([i for row in rows for i in row["labels"]])
    ends = torch.tensor([0, *spans]).cumsum(0).to(torch.int32)
    targets = torch.cat([labels[1:], torch.tensor([IGNORED])])
    targets[ends[1:].long() - 1] = IGNORED
    counts = _counts(targets, [len(row["input_ids"]) for row in rows], part or len(rows))
    learned = (targets != IGNORED).nonzero()[:, 0]
    data = {
        "input_ids": ids[None],
        "position_ids": torch.cat([torch.arange(span) for span in spans])[None],
        "learned": learned,
        "targets": targets[learned],
        "counts": counts[learned],
        "ends": ends,
        "spans": tuple(spans),
    }
    return {"data": data, "data_samples": None}


def _counts(targets: torch.Tensor, lengths: list[int], size: int) -> torch.Tensor:
    """Return among how many each token's loss is divided: the targets of its part, and the parts.

    Whole numbers, as DeepSpeed rounds a batch's fractions to its own dtype.
    """
    parts = [sum(lengths[first : first + size]) for first in range(0, len(lengths), size)]
    counts = torch.ones_like(targets)
    for part, found in zip(counts.split(parts), targets.split(parts), strict=True):
        part *= int((found != IGNORED).sum()) * len(parts)
    return counts
