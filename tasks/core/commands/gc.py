"""`doit gc`: what nobody needs goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain

from doit.cmd_base import DoitCmdBase

from .. import console, paths
from ..engine import inputs, manifest, publish, room
from ..engine.inputs import NotReady
from ..errors import LoadError, UserError, reason
from ..sources import fetched
from . import terminal
from .anyorder import JSON, AnyOrder

# What drops something and tells the bytes that this freed.
Drop = Callable[[], int]


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
            most = 0 if all else room.limit()
        except UserError as error:
            raise LoadError([str(error)]) from None
        freed, faults = 0, []
        shared: list[Drop] = [partial(room.collect, most, wait=True), fetched.collect]
        for drop in chain(shared, self._unfinished()):
            try:
                freed += drop()
            except (UserError, OSError) as error:
                faults.append(reason(error, paths.build()))
        if json:
            terminal.write_json({"freed": freed, "build": str(paths.build())})
        else:
            console.say(f"{console.size(freed)} freed in {paths.build()}")
        return terminal.failed(faults)

    def _unfinished(self) -> Iterator[Drop]:
        """Yield what drops unfinished work that no recipe would go on with, stage by stage."""
        for task in self.task_list:
            meta = task.meta or {}
            if "recipe" in meta:
                name, recipe = meta["stage"], meta["recipe"]
                try:
                    key = manifest.key_of(name, inputs.gather(meta["stages"][name], recipe))
                except (UserError, NotReady, OSError):
                    continue
                yield partial(publish.collect, recipe.name, name, key)
