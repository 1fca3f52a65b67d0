"""Settle what `train.preset: auto` leaves open: from the model's size and the devices' memory.

What a recipe says itself stays.  Nothing here changes what is learned: a step sees as many rows as
it would without the preset, and rows weigh the same.
"""

from __future__ import annotations

from typing import Any

from .. import console, paths, settings
from ..errors import UserError
from ..recipe import Recipe, present
from ..sections import Train
from . import devices as machine
from . import estimate, shape
from .choosing import BATCH, Choice, Fast, TooLarge, choose
from .shape import Shape

__all__ = ["Choice", "Fast", "TooLarge", "choice", "choose", "expected", "key", "nominal"]

# How full rows are, and the letters of a token, where nobody has counted.
FULL = 0.9
LETTERS = 4.0


def choice(recipe: Recipe) -> Choice:
    """Return how a recipe's training will run; without a preset, as the recipe says.

    Raises:
        UserError: it fits on no device, or the base is not there yet.
    """
    train = present(recipe.train)
    if train.preset is None:
        return Choice(train)
    _check_known()
    try:
        return choose(train, of(recipe), machine.found(), counted=_counts(recipe), force=forced())
    except TooLarge as error:
        raise UserError(f"{recipe.file}: train.preset: {error}") from None


def _counts(recipe: Recipe) -> bool:
    """Return whether a recipe counts iterations, so that each must be what it would be."""
    return present(recipe.train).max_iters is not None or recipe.names_iterations


def key(recipe: Recipe) -> dict[str, Any]:
    """Return what no value tells and changes the batches all the same, and so what is learned.

    Nothing where iterations are given, as batches stay then, or where the preset chooses them.
    """
    train = present(recipe.train)
    if train.preset is None or train.max_epochs is None:
        return {}
    kept = recipe.names_iterations or not BATCH.isdisjoint(train.model_fields_set)
    return {"batches stay": True} if kept else {}


def _check_known() -> None:
    """Refuse to choose for the nodes of a cluster by what a login node has."""
    found = settings.current()
    asked = found.launcher == "slurm" and not found.devices and found.slurm_gres != "none"
    if asked and not machine.found().count:
        raise UserError(
            "train.preset: auto does not know the nodes' devices, and this machine has none; "
            "say them in MODELWRIGHT_DEVICES, as in `8 x 80 GB H100`, or `none`"
        )


def of(recipe: Recipe) -> Shape:
    """Return the shape of a recipe's base."""
    return shape.read(paths.output(recipe.name, "base") / "config.json")


def nominal(train: Train) -> Choice:
    """Return the choice that stands for all machines': equal recipes have equal keys."""
    if train.preset is None:
        return Choice(train)
    dtype = train.dtype if "dtype" in train.model_fields_set else "bfloat16"
    return Choice(train.model_copy(update={"dtype": dtype}), Fast())


def forced() -> bool:
    """Return whether a training is to start although it does not fit."""
    return settings.current().force in ("1", "true")


def expected(recipe: Recipe, choice: Choice) -> list[str]:
    """Return what a training will take, for people: memory of each device, and time."""
    devices = machine.found()
    if not devices.count:
        return []
    try:
        size = of(recipe)
    except UserError:
        return []
    train, fast = choice.train, choice.fast
    layers = size.layers * train.use_activation_checkpointing
    load = estimate.load(train, fast is not None, fast.checkpoint_layers if fast else layers)
    need = choice.memory or estimate.memory(size, load)
    speed = estimate.speed(size, load, devices)
    tokens = _tokens(recipe, train)
    return [
        f"memory: about {need} of {devices.memory / 1e9:.0f} GB a device",
        (
            f"time: about {console.duration(tokens / speed)} for {tokens / 1e6:.1f} million "
            f"tokens, at {speed:.0f} a second"
        ),
    ]


def _tokens(recipe: Recipe, train: Train) -> float:
    """Return about how many tokens a training sees: as iterations say, or the data's size."""
    if train.max_iters:
        return train.max_iters * train.batch_size * train.max_length * train.launch.devices * FULL
    data = paths.output(recipe.name, "convert").glob("**/*.arrow")
    return sum(path.stat().st_size for path in data) / LETTERS * (train.max_epochs or 1)
