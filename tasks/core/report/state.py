"""What is known about one model's build: each stage's receipt, whether it is current, its cost."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import paths
from ..engine import inputs, ledger, lock, manifest, plan
from ..engine.manifest import Manifest
from ..engine.stage import Stage
from ..errors import UserError, reason
from ..recipe import Recipe

FRESH, STALE, MISSING, RUNNING = "current", "stale", "not built", "running"
# What tells of the build is no part of it.
TELLS = "report"


@dataclass(frozen=True)
class Step:
    """One stage of one model, as it is now.

    Attributes:
        state: current, stale, not built, or running now.
        reasons: why it is not current.
        before: the stages that it is made from.
        receipt: its manifest, if it has a result.
        run: the ledger's line on the run that made this result, if it is known.
    """

    stage: str
    help: str
    state: str
    reasons: Sequence[str]
    before: Sequence[str]
    receipt: Manifest | None
    run: Mapping[str, Any] | None

    @property
    def seconds(self) -> float | None:
        """How long the run took that made the result."""
        return float(self.run["seconds"]) if self.run else None


def steps(stages: Mapping[str, Stage], recipe: Recipe, fresh: Collection[str] = ()) -> list[Step]:
    """Return how stages of a model are, each after those before it.  Nothing outside is asked.

    Args:
        fresh: those that were found current just now, and are not looked at again.
    """
    runs = by_key(recipe.name)
    found: dict[str, Step] = {}
    for name, stage in stages.items():
        before = inputs.stages_before(stage, recipe)
        receipt = manifest.of(recipe.name, name)
        earlier = [found[each] for each in before if each in found]
        doubtful = None if name in fresh else receipt
        reasons = list(_reasons(name, stage, recipe, doubtful, earlier)) if doubtful else []
        state = MISSING if receipt is None else STALE if reasons else FRESH
        state = RUNNING if lock.is_held(recipe.name, name) else state
        run = runs.get((name, receipt.key)) if receipt else None
        told = (stage.__doc__ or "").splitlines()[0]
        found[name] = Step(name, told, state, reasons, before, receipt, run)
    return list(found.values())


def by_key(model: str) -> dict[tuple[str, str], ledger.Line]:
    """Return the ledger's line on how each result was made: the last run that built it.

    Where it was never built here, but restored, the line on that.
    """
    found: dict[tuple[str, str], ledger.Line] = {}
    for line in ledger.lines():
        at = (str(line.get("stage")), str(line.get("key")))
        if line.get("model") != model or not isinstance(line.get("seconds"), int | float):
            continue
        if line.get("how") == "built" or found.get(at, line).get("how") != "built":
            found[at] = line
    return found


def _reasons(
    name: str, stage: Stage, recipe: Recipe, receipt: Manifest, before: Sequence[Step]
) -> Iterator[str]:
    yield from (f"{step.stage} is {step.state}" for step in before if step.state != FRESH)
    try:
        now = inputs.gather(stage, recipe)
    except inputs.NotReady:
        return
    except (UserError, OSError) as error:
        yield reason(error, paths.build()).splitlines()[0]
        return
    for what, old, new in plan.differences(receipt.inputs, now):
        yield f"{what}: {plan.show(old)} -> {plan.show(new)}"
    for path in manifest.changed(receipt, paths.output(recipe.name, name)):
        yield f"{path} is not as it was made"
