"""Write one page about the build: what ran, what it learned, what it cost.

What comes out: `build.json`, all results of the model in one file for other programs, and
`index.html`, one file for people.  The page also holds what no manifest may: times, machines, the
numbers that training logged.  So it is no file of the manifest; it bears the digest of all that it
was made from, and is written again when that is another.  `doit report` writes the pages of all
models as they are, and an index; it builds nothing.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from doit.exceptions import TaskFailed

from .core import console, paths
from .core.engine import manifest
from .core.engine.stage import Facts, Stage, TaskDict
from .core.errors import UserError, reason
from .core.recipe import Recipe

VERSION = 1
# Quickly made anew, and of this machine.
STORED = False
TEMPLATES = ("report.html.j2", "report")


def wanted(recipe: Recipe) -> bool:
    return True


def task(recipe: Recipe) -> TaskDict:
    from . import ON_REQUEST

    before = [name for name in told_of(recipe) if name not in ON_REQUEST]
    return {
        "doc": f"{before[-1]} and all before it -> one page",
        "file_dep": [*(paths.manifest(recipe.name, name) for name in before), *templates()],
        "targets": ["build.json"],
        "actions": [(write, [recipe])],
    }


def told_of(recipe: Recipe) -> dict[str, Stage]:
    """Return the stages that the page tells of: of those on request, the ones that were run."""
    from . import ON_REQUEST, STAGES

    return {
        name: stage
        for name, stage in STAGES.items()
        if name != "report"
        and stage.wanted(recipe)
        and (name not in ON_REQUEST or paths.manifest(recipe.name, name).is_file())
    }


@cache
def templates() -> list[Path]:
    """Return the page's template and its parts."""
    page, parts = (paths.TEMPLATES / name for name in TEMPLATES)
    return [page, *sorted(parts.iterdir())]


def key(recipe: Recipe) -> dict[str, Any]:
    """Return the digests of all receipts: also of stages that run when they are named."""
    found = receipts(recipe)
    return {name: manifest.digest_of(receipt) for name, receipt in found.items()}


def receipts(recipe: Recipe) -> dict[str, manifest.Manifest]:
    """Return the receipts that there are, in the order of the stages."""
    read = ((name, manifest.of(recipe.name, name)) for name in told_of(recipe))
    return {name: receipt for name, receipt in read if receipt}


def drifted(recipe: Recipe) -> str:
    """Return that the page is not there or tells of what is no more, or nothing."""
    from .core.report import page

    return "" if page.is_current(told_of(recipe), recipe) else "the page is out of date"


def run(recipe: Recipe, folder: Path) -> Facts:
    found = {
        name: {
            "content": receipt.content,
            "key": receipt.key,
            "bytes": receipt.size,
            "facts": receipt.facts,
        }
        for name, receipt in receipts(recipe).items()
    }
    content = {"version": 1, "model": recipe.name, "stages": found}
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (folder / "build.json").write_text(text, encoding="utf-8")
    return {"stages": len(found)}


def write(recipe: Recipe) -> TaskFailed | None:
    """Write the page; the second action of the task."""
    from .core.report import page

    try:
        console.say(f"   {page.write(told_of(recipe), recipe)}")
    except (UserError, OSError) as error:
        return TaskFailed(reason(error, paths.build()))
    return None
