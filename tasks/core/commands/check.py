"""`doit check`: every byte of every result, read again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from doit.cmd_base import DoitCmdBase

from .. import console, paths
from ..engine import digests, manifest
from ..engine.manifest import Manifest
from . import terminal
from .anyorder import JSON, AnyOrder
from .selection import stages


class Check(AnyOrder, DoitCmdBase):  # type: ignore[misc]  # doit is untyped
    """`doit check`: read every byte of every result and of the store again."""

    doc_purpose = "read all results again and tell what is not as it was made"
    doc_usage = "[TASK ...]"
    doc_description = "Exit status 0 when all is well, 1 otherwise; the next build makes it anew."
    cmd_options = (JSON,)

    def _execute(self, json: bool) -> int:
        names = self.sel_tasks if not self.sel_default_tasks else [t.name for t in self.task_list]
        bad = []
        for name, _, recipe in stages(self.task_list, names):
            receipt = manifest.of(recipe.name, name)
            for path in _audit(receipt) if receipt else ():
                bad.append({"task": f"{name}:{recipe.name}", "path": str(path)})
                if not json:
                    cure = f"`doit {name}:{recipe.name}` makes it"
                    console.say(f"{path}: not as it was made; {cure}")
        if json:
            terminal.write_json(bad)
        else:
            few = "1 file is not" if len(bad) == 1 else f"{len(bad)} files are not"
            said = few if bad else "all results are as they were made"
            console.say(said)
        return int(bool(bad))


def _audit(receipt: Manifest) -> Iterator[Path]:
    """Read a result's files; yield those that are not what the manifest has."""
    folder = paths.output(receipt.model, receipt.stage)
    for file in receipt.files:
        path = folder / file.path
        console.status(f"reading {path}")
        try:
            good = digests.read(path) == file.digest
        except OSError:
            good = False
        console.clear()
        if not good:
            digests.forget(path)
            yield path
