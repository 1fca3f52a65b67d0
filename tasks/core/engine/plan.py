"""What a build would do, stage by stage, and why, before anything runs.

The plan follows the stages in order.  Where a stage would run, what it will hold is not known, so
the stages after it are planned to run as well; a result equal to the old one stops that when it
comes to it.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from typing import Any

from .. import console, paths
from ..errors import UserError, reason
from ..recipe import Recipe
from . import cas, inputs, ledger, manifest
from .manifest import Manifest
from .stage import Stage

FRESH, RESTORE, RUN = "fresh", "restore", "run"
NEVER = "never built"


@dataclass(frozen=True)
class Step:
    """What would happen to one stage of one model.

    Attributes:
        verdict: fresh, restore or run.
        reasons: why, each `what: old -> new`.
        seconds, size: what the last runs took and left, where the ledger knows it.
    """

    stage: str
    model: str
    verdict: str
    reasons: Sequence[str] = ()
    seconds: float | None = None
    size: int | None = None

    @property
    def task(self) -> str:
        """The task's name, as doit has it."""
        return f"{self.stage}:{self.model}"


@dataclass
class Planner:
    """Judges stages in the order in which they are asked for, and remembers what they will hold."""

    stages: Mapping[str, Stage]
    contents: dict[tuple[str, str], str | Callable[[], str] | None] = field(default_factory=dict)
    steps: dict[tuple[str, str], Step] = field(default_factory=dict)

    def judge(self, name: str, recipe: Recipe) -> Step:
        """Return what would happen to a stage, once those before it are judged."""
        stage = self.stages[name]
        old = manifest.of(recipe.name, name)
        try:
            before = self._before(stage, recipe, old)
            unknown = [stage for stage, content in before.items() if content is None]
            known = {stage: content for stage, content in before.items() if content}
            new = inputs.gather(stage, recipe, {**known, **dict.fromkeys(unknown, "?")})
        except inputs.NotReady as source:
            unlocked = f"{source}: what it stands for now was not looked up yet"
            return self._note(name, recipe, RUN, [unlocked if old else NEVER])
        except (UserError, OSError) as error:
            return self._note(name, recipe, RUN, [reason(error, paths.build()).splitlines()[0]])
        reasons = self._reasons(old, new, unknown, recipe, name)
        if not reasons and old:
            drift = stage_drift(stage, recipe)
            verdict = RUN if drift else FRESH
            return self._note(name, recipe, verdict, [drift] if drift else [], old.content)
        key = manifest.key_of(name, new)
        stored = cas.look_up(name, key) if getattr(stage, "STORED", True) else None
        if stored and not unknown:
            kept = reasons if old else ["the store has it"]
            return self._note(name, recipe, RESTORE, kept, stored.content)
        forecast = getattr(stage, "forecast", None)
        content = cache(partial(forecast, recipe)) if forecast else None
        reused = self._reused(stage, recipe, before)
        if not unknown and (begun := stage_begun(stage, recipe, name, key)):
            reasons = [begun, *(reason for reason in reasons if reason != NEVER)]
        return self._note(name, recipe, RUN, [*reasons, *reused], content, is_quick=bool(reused))

    def _reused(self, stage: Stage, recipe: Recipe, before: Iterable[str]) -> list[str]:
        """Return what makes a run quicker than it was, if the stages before are as they will be."""
        settled = all(self.steps[name, recipe.name].verdict == FRESH for name in before)
        reused = getattr(stage, "reuses", lambda _: "")(recipe) if settled else ""
        return [reused] if reused else []

    def _before(self, stage: Stage, recipe: Recipe, old: Manifest | None) -> dict[str, str | None]:
        """Return what the stages before will hold; None where they are to be made anew.

        A forecast takes its time, and tells nothing of a stage that was never built while another
        of its inputs is unknown.
        """
        names = inputs.stages_before(stage, recipe)
        found = {name: self.contents[name, recipe.name] for name in names}
        if old is None and None in found.values():
            return {name: told if isinstance(told, str) else None for name, told in found.items()}
        return {name: told() if callable(told) else told for name, told in found.items()}

    def _reasons(
        self,
        old: Manifest | None,
        new: Mapping[str, Any],
        unknown: Sequence[str],
        recipe: Recipe,
        name: str,
    ) -> list[str]:
        if old is None:
            return [NEVER]
        found = []
        for key, before, after in differences(old.inputs, new):
            if after == "?":
                found.append(f"{key} will be made anew")
            elif (key, recipe.name) in self.steps:
                found += [f"{key}: {r}" for r in self.steps[key, recipe.name].reasons] or [
                    f"{key} changed: {show(before)} -> {show(after)}"
                ]
            else:
                found.append(f"{key}: {show(before)} -> {show(after)}")
        touched = manifest.changed(old, paths.output(recipe.name, name))
        return [*found, *(f"{path} is not as it was made" for path in touched)]

    def _note(
        self,
        name: str,
        recipe: Recipe,
        verdict: str,
        reasons: Sequence[str],
        content: str | Callable[[], str] | None = None,
        is_quick: bool = False,
    ) -> Step:
        runs = self._runs_of(name, recipe.name) if verdict == RUN else ()
        seconds = 0.0 if is_quick else _usual(run["seconds"] for run in runs)
        size = _usual(run["bytes"] for run in runs)
        whole = None if size is None else int(size)
        step = Step(name, recipe.name, verdict, reasons, seconds, whole)
        self.contents[name, recipe.name] = content
        self.steps[name, recipe.name] = step
        return step

    def _runs_of(self, stage: str, model: str) -> Sequence[ledger.Line]:
        """Return the last runs of a stage; those of another model would tell nothing of this."""
        return self._built[stage, model][-3:]

    @cached_property
    def _built(self) -> Mapping[tuple[str, str], list[ledger.Line]]:
        """The ledger's lines on what was built, by stage and model."""
        found: defaultdict[tuple[str, str], list[ledger.Line]] = defaultdict(list)
        for line in ledger.lines():
            measured = all(isinstance(line.get(n), int | float) for n in ("seconds", "bytes"))
            if line.get("how") == "built" and measured:
                found[str(line.get("stage")), str(line.get("model"))].append(line)
        return found


def _usual(values: Iterable[float]) -> float | None:
    """Return the middle of some values; None where there is none."""
    order = sorted(values)
    return (order[(len(order) - 1) // 2] + order[len(order) // 2]) / 2 if order else None


def stage_begun(stage: Stage, recipe: Recipe, name: str, key: str) -> str:
    """Return from where a run that was stopped goes on, or nothing."""
    folder, goes_on = paths.scratch(recipe.name, name, key), getattr(stage, "goes_on", None)
    if not goes_on or not folder.is_dir():
        return ""
    try:
        return str(goes_on(recipe, folder))
    except (UserError, OSError):
        return ""  # the run itself says what is wrong


def stage_drift(stage: Stage, recipe: Recipe) -> str:
    """Return what of an outward stage's result is no longer as it was left, or nothing."""
    found = getattr(stage, "drifted", lambda _: "")(recipe)
    return found if isinstance(found, str) else "not there as it was left" if found else ""


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield the inputs that differ: name, old value, new value; None where there is none.

    The recipe's values are told by their own key paths.
    """
    before = {**old, **old.get("recipe", {})}
    after = {**new, **new.get("recipe", {})}
    for key in sorted({*before, *after} - {"recipe"}):
        if before.get(key) != after.get(key):
            yield key, before.get(key), after.get(key)


def show(value: Any) -> str:
    """Return a value as a reason shows it: short, and `nothing` for none."""
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = console.brief(text)
    return text if len(text) <= 40 else f"{text[:37]}..."
