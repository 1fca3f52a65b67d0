"""`doit ship:<model>`, all that leaves this machine, and `doit unship:<model>`, all that back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from doit.exceptions import TaskFailed

from .. import console, paths
from ..errors import UserError, reason
from ..recipe import Recipe
from . import lock, manifest, publish
from .journal import Journal
from .stage import Stage, TaskDict


def tasks(
    stages: Mapping[str, Stage], outward: Sequence[str], recipes: Sequence[Recipe]
) -> Iterator[TaskDict]:
    """Yield both tasks for each model that has anything to ship.

    Args:
        outward: the stages that leave this machine, in the order of shipping.
    """
    yield {"basename": "ship", "name": None, "doc": "Ship a model to all that its recipe names."}
    yield {"basename": "unship", "name": None, "doc": "Take away what was shipped of a model."}
    for recipe in recipes:
        wanted = [name for name in outward if stages[name].wanted(recipe)]
        if wanted:
            yield _ship(stages, wanted, recipe)
            yield _unship(stages, wanted, recipe)


def lacks(stage: Stage, recipe: Recipe) -> str:
    """Return the setting without which a stage cannot go anywhere, or nothing."""
    return str(getattr(stage, "lacks", _lacks_nothing)(recipe))


def check(name: str, stage: Stage, recipe: Recipe) -> None:
    """Refuse a stage that makes nothing without a setting which is not there.

    Raises:
        UserError: it is such a stage.
    """
    setting = "" if getattr(stage, "ALONE", False) else lacks(stage, recipe)
    if setting:
        raise UserError(f"{name}: {setting} is not set; give it as docs/settings.md says")


def _ship(stages: Mapping[str, Stage], wanted: Sequence[str], recipe: Recipe) -> TaskDict:
    missing = {name: lacks(stages[name], recipe) for name in wanted}
    ready = [name for name in wanted if not missing[name]]
    left_out = [f"{name} left out: {missing[name]} is not set" for name in wanted if missing[name]]
    return {
        "basename": "ship",
        "name": recipe.name,
        "doc": ", ".join(ready) or "nothing, as no setting says where to",
        "task_dep": [f"{name}:{recipe.name}" for name in ready],
        "actions": [(_say, [left_out])] if left_out else None,
        "verbosity": 2,
    }


def _unship(stages: Mapping[str, Stage], wanted: Sequence[str], recipe: Recipe) -> TaskDict:
    back = wanted[::-1]
    return {
        "basename": "unship",
        "name": recipe.name,
        "doc": ", ".join(name for name in back if hasattr(stages[name], "undo")),
        "actions": [(unship, [{name: stages[name] for name in back}, recipe])],
        "verbosity": 2,
    }


def unship(stages: Mapping[str, Stage], recipe: Recipe) -> TaskFailed | None:
    """Undo stages one after the other; one that cannot be undone keeps none of the others.

    A stage without `undo` made nothing that could be taken away.
    """
    console.start(f"unship:{recipe.name}")
    faults = []
    for name, stage in stages.items():
        try:
            with lock.held(recipe.name, name):
                _undo(name, stage, recipe)
        except (UserError, OSError) as error:
            faults.append(f"{name}: {reason(error, paths.build())}")
    return TaskFailed("\n".join(faults)) if faults else None


def _undo(name: str, stage: Stage, recipe: Recipe) -> None:
    receipt = manifest.of(recipe.name, name)
    undo = getattr(stage, "undo", None)
    if undo is None:
        if receipt:
            console.say(f"   {name}: stays, as it may be in use elsewhere")
        return
    # A run that failed may have changed something out there, and noted it.
    if receipt is None and lacks(stage, recipe) and not Journal(recipe.name, name).read():
        return
    for line in undo(recipe, receipt):
        console.say(f"   {name}: {line}")
    publish.remove(paths.output(recipe.name, name))


def _say(lines: Sequence[str]) -> None:
    for line in lines:
        console.say(f"   {line}")


def _lacks_nothing(recipe: Recipe) -> str:
    """Return nothing: the stage needs no setting."""
    return ""
