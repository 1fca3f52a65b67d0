"""What checkpoints hold, and how they are found again: the same bytes each time.

training.py puts this into mmengine's and DeepSpeed's own functions, in its process alone.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or __package__:
    from . import wholefiles
else:  # inside the toolchain, where it lies beside this
    import wholefiles

# What a checkpoint may not hold, so that equal trainings leave equal checkpoints.
UNREPEATABLE = ("time", "experiment_name", "cfg", "last_ckpt")
TIMINGS = ("time", "data_time", "tflops", "tokens_per_sec", "memory", "eta")


def newest(folder: Path, every: int = 1) -> Path | None:
    """Return the newest checkpoint in a folder, if any.

    Args:
        every: after how many iterations weights are changed: one saved in between has lost the
            gradients of a part of its step, and is taken only where there is no other.
    """
    found = wholefiles.numbered(folder)
    whole = [number for number in found if number % every == 0] or list(found)
    return found[max(whole)] if whole else None


def prepare(owner: str) -> None:
    """Change how mmengine saves and loads.

    Args:
        owner: whose checkpoints these are; those of another are not trained further.
    """
    from mmengine.fileio import LocalBackend
    from mmengine.hooks import CheckpointHook
    from mmengine.logging import HistoryBuffer, MessageHub

    load_hub = MessageHub.load_state_dict

    def load(self: Any, state: dict[str, Any]) -> None:
        scalars = {n: HistoryBuffer(*parts) for n, parts in state["log_scalars"].items()}
        load_hub(self, {**state, "log_scalars": scalars})

    def before_save(self: Any, runner: Any, checkpoint: dict[str, Any]) -> None:
        strip(checkpoint, owner)

    def after_load(self: Any, runner: Any, checkpoint: dict[str, Any]) -> None:
        if runner._resume:
            check_owner(checkpoint, owner, runner._load_from)

    MessageHub.load_state_dict = load
    CheckpointHook.before_save_checkpoint = before_save
    CheckpointHook.after_load_checkpoint = after_load
    CheckpointHook.before_train = wholefiles.dropping_late(CheckpointHook.before_train)
    CheckpointHook._save_checkpoint_with_step = wholefiles.dropping_last(
        CheckpointHook._save_checkpoint_with_step
    )
    LocalBackend.put = wholefiles.put


def prepare_deepspeed(owner: str) -> None:
    """Change how DeepSpeed saves and loads, which asks no hook of mmengine's."""
    import torch
    from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
    from deepspeed.runtime.engine import DeepSpeedEngine
    from mmengine._strategy import DeepSpeedStrategy
    from mmengine._strategy import deepspeed as module

    save_engine, save_strategy = DeepSpeedEngine.save_checkpoint, DeepSpeedStrategy.save_checkpoint
    save_file, resume_parts = module.save_checkpoint, DeepSpeedStrategy.resume

    def save_parts(self: Any, *args: Any, client_state: dict[str, Any], **options: Any) -> Any:
        strip(client_state, owner)
        return save_engine(self, *args, client_state=client_state, **options)

    def save_whole(checkpoint: dict[str, Any], filename: str) -> None:
        strip(checkpoint, owner)
        save_file(checkpoint, filename)

    def resume(self: Any, filename: str, **options: Any) -> dict[str, Any]:
        whole = Path(filename).is_file()
        state = resume_weights(self, filename) if whole else resume_parts(self, filename, **options)
        check_owner(state, owner, filename)
        return state

    def save_aside(self: Any, filename: str, **options: Any) -> None:
        with wholefiles.all_ranks(Path(filename)) as aside:
            save_strategy(self, str(aside), **options)

    def write(self: Any, state: dict[str, Any], path: str) -> None:
        try:
            with wholefiles.durable(Path(path)) as file:
                torch.save(unshared(state), file)
        except RuntimeError as error:
            # torch says that it could not end the file; the system said why.
            raise error.__context__ or error from None

    DeepSpeedEngine.save_checkpoint = save_parts
    DeepSpeedStrategy.resume = resume
    DeepSpeedStrategy.save_checkpoint = save_aside
    TorchCheckpointEngine.save = write
    module.save_checkpoint = save_whole


def resume_weights(strategy: Any, filename: str) -> dict[str, Any]:
    """Go on from a checkpoint without the optimiser: one file, which DeepSpeed itself cannot read.

    Weights and learning rate are as they were; the optimiser starts anew.
    """
    import deepspeed
    import torch

    state: dict[str, Any] = torch.load(filename, map_location="cpu")
    engine = strategy.model.model
    weights = state.pop("state_dict")
    found = {n: p for n, p in engine.module.named_parameters() if n in weights}
    gathered = deepspeed.zero.GatheredParameters(list(found.values()), modifier_rank=0)
    with torch.no_grad(), gathered:
        for name, parameter in found.items():
            if parameter.shape == weights[name].shape:
                parameter.copy_(weights[name])
    engine.optimizer.refresh_fp32_params()
    strategy.load_scheduler_state_dict(state.pop("param_schedulers"))
    return state


def strip(checkpoint: dict[str, Any], owner: str) -> None:
    """Leave times, paths and code out of a checkpoint: only plain values stay.

    mmengine pickles its HistoryBuffer objects, which torch rightly refuses to load; a list of their
    values and counts says the same.
    """
    for name in UNREPEATABLE:
        checkpoint["meta"].pop(name, None)
    checkpoint["meta"]["owner"] = owner
    hub = checkpoint["message_hub"]
    for part in ("log_scalars", "runtime_info", "resumed_keys"):
        for name in [n for n in hub[part] if n.split("/")[-1] in UNREPEATABLE + TIMINGS]:
            del hub[part][name]
    scalars = hub["log_scalars"].items()
    hub["log_scalars"] = {name: [part.tolist() for part in s.data] for name, s in scalars}
    for part in checkpoint:
        checkpoint[part] = unshared(checkpoint[part])


def check_owner(checkpoint: dict[str, Any] | None, owner: str, path: str) -> None:
    """Refuse a checkpoint of another training; its weights might even fit."""
    found = (checkpoint or {}).get("meta", {}).get("owner")
    if found != owner:
        sys.exit(
            f"{path} was saved by {found or 'another program'}, not by {owner}; "
            "take it out of there and run doit again"
        )


def unshared(value: Any) -> Any:
    """Return a copy in which equal strings are one object and containers are each their own.

    A pickle says "as above" for the same object, and a resumed training shares other objects
    than an undisturbed one.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        # mmengine's ConfigDict is code, which a checkpoint need not hold.
        same: dict[Any, Any] = OrderedDict() if isinstance(value, OrderedDict) else {}
        same.update((unshared(key), unshared(inner)) for key, inner in value.items())
        if isinstance(value, OrderedDict):
            vars(same).update(unshared(vars(value)))  # torch keeps _metadata there
        return same
    if type(value) in (list, tuple):
        return type(value)(unshared(inner) for inner in value)
    return value
