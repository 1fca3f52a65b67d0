"""`doit gc`: what nobody needs goes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from doit.cmd_base import DoitCmdBase

from .. import console, paths
from ..engine import inputs, manifest, publish, room
from ..engine.inputs import NotReady
from ..errors import LoadError, UserError
from ..sources import fetched
from . import terminal
from .anyorder import JSON, AnyOrder


class Gc(AnyOrder, DoitCmdBase):  # type: ignore[misc]  # doit is untyped
    """`doit gc`: shrink the store, drop downloads and unfinished work that nobody needs."""

    doc_purpose = "drop from the store what was used longest ago, down to its limit"
    doc_usage = ""
    doc_description = "The limit is the setting MODELWRIGHT_STORE_LIMIT."
    cmd_options = (
        {
            "name": "all",
            "long": "all",
            "type": bool,
            "default": False,
            "help": "drop everything that no build folder shares",
        },
        JSON,
    )

    def _execute(self, all: bool, json: bool) -> int:  # noqa: A002  # the option's name
        try:
            freed = room.collect(0 if all else room.limit(), wait=True)
            freed += fetched.collect() + _collect_unfinished(self.task_list)
        except UserError as error:
            raise LoadError([str(error)]) from None
        if json:
            terminal.write_json({"freed": freed, "build": str(paths.build())})
        else:
            console.say(f"{console.size(freed)} freed in {paths.build()}")
        return 0


def _collect_unfinished(task_list: Sequence[Any]) -> int:
    """Drop unfinished work that no recipe would go on with; return the bytes that were freed."""
    freed = 0
    for task in task_list:
        meta = task.meta or {}
        if "recipe" in meta:
            name, recipe = meta["stage"], meta["recipe"]
            with contextlib.suppress(UserError, NotReady, OSError):
                key = manifest.key_of(name, inputs.gather(meta["stages"][name], recipe))
                freed += publish.collect(recipe.name, name, key)
    return freed
