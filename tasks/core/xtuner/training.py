"""What xtuner's training wants changed before it starts, in its process alone.

Part of the programs that run inside the xtuner toolchain; launch.py calls it.
"""

from __future__ import annotations

import importlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import saving, sequences
else:  # inside the toolchain, where these lie beside it
    import saving
    import sequences

# Parameters that DeepSpeed gathers before their turn: a layer's of an 8B model, not part of one.
AHEAD = 220_000_000
# Gradients that it sums at a time, some layers': all at once would be after the last layer.
TOGETHER = 25_000_000


def prepare(path: str, folder: str, deepspeed: str, has_accelerator: bool) -> list[str]:
    """Keep datasets clean, warm-up effective and checkpoints repeatable; go on where one ended.

    Args:
        path: the config.
        folder: the work directory; its name stands for the training in each checkpoint.
        deepspeed: the name or path of DeepSpeed's settings, or nothing.

    Returns:
        What the config is to say besides.
    """
    from mmengine.config import Config

    place, config = Path(folder), Config.fromfile(path)
    keep_rows_in(place / "datasets")
    widen_warm_up()
    sample_apart()
    owner = f"{place.name}, {steps(config, deepspeed)}"
    saving.prepare(owner)
    if deepspeed:
        saving.prepare_deepspeed(owner)
        settle_deepspeed(config.model.llm.get("torch_dtype"))
    if config.get("sequence_parallel_size", 1) > 1:
        sequences.prepare()
    options = []
    newest = saving.newest(place, config.get("accumulative_counts", 1))
    if newest:
        options += ["resume=True", f"load_from={newest.absolute()}"]
    if not has_accelerator:
        options.append("env_cfg.dist_cfg.backend=gloo")
        train_on_processors(deepspeed)
    return options


def steps(config: Any, deepspeed: str) -> str:
    """Return how a training steps.

    A preset chooses it by the devices: what was begun on some is not gone on with on others.
    """
    batch = f"{config.get('batch_size')} x {config.get('accumulative_counts')}"
    dtype = config.model.llm.get("torch_dtype")
    return f"batch {batch}, {dtype}, {Path(deepspeed).name or 'no DeepSpeed'}"


def keep_rows_in(folder: Path) -> None:
    """Let map() write where all nodes read: not into the dataset, nor into this node's own /tmp."""
    import datasets

    datasets.disable_caching()
    folder = folder.absolute()
    if os.environ.get("RANK", "0") == "0":
        # What cannot go stops mkdir().
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    arrow: Any = importlib.import_module("datasets.arrow_dataset")
    arrow.get_temporary_cache_files_directory = lambda: str(folder)


def sample_apart() -> None:
    """Let the answers that are shown while it trains draw no random numbers of the training's."""
    import torch
    from xtuner.engine.hooks import EvaluateChatHook

    original = EvaluateChatHook._generate_samples

    def generate(self: Any, *args: Any, **options: Any) -> None:
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices):
            original(self, *args, **options)

    EvaluateChatHook._generate_samples = generate


def train_on_processors(deepspeed: str) -> None:
    """Let processes without devices train together."""
    from mmengine.model import MMDistributedDataParallel

    original = MMDistributedDataParallel.__init__

    def build(self: Any, module: Any, device_ids: Any = None, **options: Any) -> None:
        original(self, module, device_ids=None, **options)

    MMDistributedDataParallel.__init__ = build
    if deepspeed:
        # Its package has a name `torch` that is torch itself.
        communication: Any = importlib.import_module("deepspeed.comm.torch")
        # It would compile a faster sum for inference, which training never asks for.
        communication.build_shm_op = lambda: None
        wait_for_each(communication.TorchBackend)


def wait_for_each(backend: Any) -> None:
    """Let what DeepSpeed gathers be there before it goes on.

    Of several it waits for the last alone.  Devices take them in turn; gloo has two threads, and
    wrote one over weights that a checkpoint had put there already.
    """
    original = backend.all_gather_into_tensor

    def gather(self: Any, *tensors: Any, **options: Any) -> Any:
        work = original(self, *tensors, **options)
        if work is not None:
            work.wait()
        return work

    backend.all_gather_into_tensor = gather


def settle_deepspeed(dtype: Any) -> None:
    """Settle what DeepSpeed's settings leave open.

    Args:
        dtype: the config's, where xtuner would take the best that the device has.
    """
    import torch

    utils: Any = importlib.import_module("xtuner.tools.utils")

    def settle(settings: dict[str, Any]) -> dict[str, Any]:
        zero = settings.get("zero_optimization", {})
        if zero.get("stage") == 3:
            zero.setdefault("stage3_prefetch_bucket_size", AHEAD)
            zero.setdefault("reduce_bucket_size", TOGETHER)
        for name, meant in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
            part = settings.setdefault(name, {"enabled": False})
            if part.get("enabled", "auto") == "auto":
                part["enabled"] = dtype == meant
        return settings

    utils.auto_dtype_of_deepspeed_config = settle


def widen_warm_up() -> None:
    """Let a warm-up in epochs last two iterations at least.

    mmengine turns its end into iterations by cutting off: with one iteration the learning rate
    stays at `start_factor` for ever, with none it refuses to start.
    """
    from mmengine.optim import LinearLR

    original = LinearLR.build_iter_from_epoch.__func__

    def build(
        cls: Any, *args: Any, begin: Any = 0, end: Any, epoch_length: int, **rest: Any
    ) -> Any:
        least = (int(begin * epoch_length) + 2) / epoch_length
        return original(
            cls, *args, begin=begin, end=max(end, least), epoch_length=epoch_length, **rest
        )

    LinearLR.build_iter_from_epoch = classmethod(build)  # type: ignore[arg-type]  # `/` and `cls`
