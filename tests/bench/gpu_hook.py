"""What tests/bench/gpu.py notes at the end of every iteration; a config of its names this hook."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook


class Note(Hook):  # type: ignore[misc]  # mmengine is untyped
    """Append time, tokens that are no padding, loss and memory to the file in $BENCH_NOTES."""

    # Before mmengine's timer, so that writing is no waiting for data.
    priority = "ABOVE_NORMAL"

    def after_train_iter(
        self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        data = data_batch["data"]
        there = data.get("attention_mask")
        tokens = int(there.sum()) if there is not None else data["input_ids"].numel()
        memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        note = {"tokens": tokens, "loss": float(outputs["loss"]), "memory": memory}
        with Path(f"{os.environ['BENCH_NOTES']}.{os.environ.get('RANK', 0)}").open("a") as file:
            file.write(json.dumps({"time": time.time(), **note}) + "\n")
