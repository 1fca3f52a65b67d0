"""How many iterations a training by epochs takes, as the converted rows tell before it starts."""

from __future__ import annotations

from math import ceil

from ..engine import manifest
from ..recipe import Recipe
from ..sections import Train


def most(recipe: Recipe, train: Train) -> int | None:
    """Return the most iterations that a training by epochs can take; None where nothing tells.

    xtuner drops rows of which nothing is learned, so that it may be some less.  A template of the
    recipe's own may go through them in any way.
    """
    receipt = manifest.of(recipe.name, "convert")
    if receipt is None or train.max_epochs is None or train.pack_to_max_length or train.template:
        return None
    ranks = train.launch.devices // train.sequence_parallel_size
    rows: int = receipt.facts["rows"]
    return train.max_epochs * ceil(ceil(rows / ranks) / train.batch_size)


def may_leave(train: Train, most: int, wanted: int) -> bool:
    """Return whether a training may leave a checkpoint: a saved one that is kept, or the last.

    Args:
        most: the most iterations that it takes; half as many are thought possible, too.
    """
    least = most // 2
    later = ceil((least - wanted) / train.save_steps)
    is_kept = wanted % train.save_steps == 0 and not 0 < train.save_total_limit <= later
    return wanted <= most and (wanted >= least or is_kept)
