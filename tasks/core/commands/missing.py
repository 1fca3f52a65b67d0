"""What recipes name and is not there, and settings that are not: told before anything runs.

Not after hours of training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from .. import paths
from ..engine import inputs, manifest, shipping
from ..engine.stage import Stage
from ..errors import UserError, reason
from ..recipe import Recipe
from ..sources import source

SOURCES = ("base", "data", "adapter")


def faults(stages: Iterable[tuple[str, Stage, Recipe]]) -> list[str]:
    """Return one line for each file, folder or setting that a stage would look for in vain."""
    return list(dict.fromkeys(fault for each in stages for fault in _of(*each)))


def _of(name: str, stage: Stage, recipe: Recipe) -> Iterator[str]:
    part = getattr(recipe, name) if name in SOURCES else None
    try:
        shipping.check(name, stage, recipe)
        if part and part.path:
            source.local(recipe, part, name)
        named = map(Path, stage.task(recipe).get("file_dep", ()))
        gone = [path for path in named if path.name != manifest.NAME and not path.is_file()]
        yield from (str(inputs.missing(path, recipe)) for path in gone)
        check = getattr(stage, "check", None)
        if check and not gone:
            check(recipe)
    except (UserError, OSError) as error:
        yield reason(error, paths.build())
