"""`doit compare MODEL A B`: what two builds differ in."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from typing import Any

from doit.cmd_base import Command

from .. import console, paths, settings
from ..commands import terminal
from ..commands.anyorder import JSON, AnyOrder
from ..engine import ledger, manifest, plan
from ..errors import LoadError
from . import answers, sides


class Compare(AnyOrder, Command):  # type: ignore[misc]  # doit is untyped
    """`doit compare`: list a model's results, or set two builds or two models side by side."""

    doc_purpose = "show what two builds, or two models, differ in"
    doc_usage = "MODEL [A [B]] | MODEL MODEL"
    doc_description = (
        "A and B are the first digits of a result's key, or `now` for what the build folder has; "
        "B is `now` if it is not given.  With MODEL alone, the results that are kept are listed.  "
        "Exit status 1 when something differs."
    )
    cmd_options = (JSON,)

    def execute(self, opt_values: dict[str, Any], pos_args: list[str]) -> int:
        """Print the table; doit calls this."""
        if not 1 <= len(pos_args) <= 3:
            raise LoadError(["`doit compare`: give a model, then A and B; see `doit help compare`"])
        if len(pos_args) == 1:
            _list(pos_args[0], json=opt_values["json"])
            return 0
        names = _named(pos_args)
        builds = [sides.build(stages(), model, name) for model, name in names]
        # An earlier build is known only as far as its results are kept.
        whole = all(name == sides.NOW for _, name in names)
        found = [
            *(sides.lone(*builds) if whole else []),
            *sides.differences(*builds),
            *answers.rows(*builds),
        ]
        heads = [model if name == sides.NOW else name for model, name in names]
        if opt_values["json"]:
            terminal.write_json([{"name": n, "a": a, "b": b} for n, a, b in found])
        elif found:
            terminal.write(_side_by_side(heads, found))
        else:
            terminal.write([f"{heads[0]} and {heads[1]}: no difference"])
        return int(bool(found))


def stages() -> list[str]:
    """Return the stages' names; loaded here, as they import much."""
    from tasks import STAGES

    return list(STAGES)


def _named(words: Sequence[str]) -> list[tuple[str, str]]:
    """Return the two builds that are meant, each a model and a name."""
    model, *names = words
    if len(names) == 1 and _is_model(names[0]):
        return [(model, sides.NOW), (names[0], sides.NOW)]
    return [(model, names[0]), (model, names[1] if len(names) > 1 else sides.NOW)]


def _is_model(word: str) -> bool:
    """Return whether a word names a model, which may have a recipe only, and no key."""
    described = paths.expand(settings.current().recipes).glob(f"{glob.escape(word)}.y*ml")
    return any((paths.build() / word).glob(f"*/{manifest.NAME}")) or any(described)


def _side_by_side(heads: Sequence[str], found: Sequence[tuple[str, Any, Any]]) -> list[str]:
    rows = [("", *heads), *((name, plan.show(a), plan.show(b)) for name, a, b in found)]
    return terminal.table(rows)


def _list(model: str, *, json: bool) -> None:
    """Print the results of a model that are kept, the newest first."""
    runs = {str(run.get("key")): run for run in ledger.lines() if run.get("model") == model}
    kept = sides.results(model)
    if not kept:
        raise LoadError([f"{model}: no result is kept; build it, or name another model"])
    told = [{**runs.get(r.key, {}), "stage": r.stage, "key": r.key, "facts": r.facts} for r in kept]
    if json:
        terminal.write_json(told)
        return
    rows = [
        (
            str(runs.get(r.key, {}).get("time", ""))[:16].replace("T", " "),
            r.stage,
            paths.short(r.key),
            console.summary(r),
        )
        for r in kept
    ]
    terminal.write(terminal.table(rows))
