"""From a stage and a recipe to a doit task, and what all tasks do alike when they run."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

from doit.exceptions import TaskFailed

from .. import console, paths
from ..errors import UserError, reason
from ..recipe import Recipe
from . import inputs, ledger, lock, manifest, process, publish, store
from .inputs import NotReady
from .manifest import Manifest

TaskDict = dict[str, Any]
Facts = dict[str, Any]


class Stage(Protocol):
    """What a module in tasks/ must offer to be a stage.  Its docstring's first line is its help."""

    __doc__: str | None

    # Raised when the same inputs give another result than before.
    @property
    def VERSION(self) -> int: ...

    # Whether this recipe asks for the stage.
    def wanted(self, recipe: Recipe) -> bool: ...

    # The doit task: `file_dep` is what goes in, `targets` what comes out and has a name beforehand.
    def task(self, recipe: Recipe) -> TaskDict: ...

    # The recipe's values that can change the result.
    def key(self, recipe: Recipe) -> dict[str, Any]: ...

    # Fill an empty folder; return facts for the manifest.
    def run(self, recipe: Recipe, folder: Path) -> Facts: ...

    # A module may say `RESUMES = True`, when a killed run can go on from its scratch folder,
    # `STORED = False`, when its result belongs to this machine, and `ALONE = True`, when it makes
    # something of use without the setting that it `lacks`.
    #
    # More functions are optional.  `forecast(recipe)` tells the content beforehand.
    # `check(recipe)` refuses what cannot be right in recipe, its files or settings, before anything
    # runs.
    # `reuses(recipe)` says what of a run's work is done already, so that its usual time misleads.
    # `goes_on(recipe, folder)` says from where a killed run goes on that left its scratch folder.
    # `settle(recipe)` writes into the recipe's lock what a moving name stands for, before the
    # inputs are read; `update(recipe)` looks it up anew.  `drifted(recipe)` asks the outside
    # whether a result that is fresh by its manifest is no longer there, and may say what of it.
    # `takes_part(recipe, key)` says whether another host's build makes the result; if so, it has
    # helped it by then.
    # `lacks(recipe)` names the setting without which an outward stage cannot go anywhere, and
    # `undo(recipe, receipt)` takes away what its last run made out there; see shipping.py.


def group(name: str, stage: Stage) -> TaskDict:
    """Return the entry that `doit list` shows for a stage."""
    return {"basename": name, "name": None, "doc": (stage.__doc__ or "").splitlines()[0]}


def build(stages: Mapping[str, Stage], name: str, recipe: Recipe) -> TaskDict:
    """Complete a stage's own task with what all stages share."""
    stage = stages[name]
    task, folder = stage.task(recipe), paths.output(recipe.name, name)
    return {
        "basename": name,
        "name": recipe.name,
        **task,
        "file_dep": [str(path) for path in task.get("file_dep", ())],
        "targets": [f"{folder}/{target}" for target in (manifest.NAME, *task.get("targets", ()))],
        "uptodate": [*task.get("uptodate", ()), (is_fresh_through, [stages, name, recipe])],
        "actions": [(act, [name, stage, recipe]), *task.get("actions", ())],
        "clean": [(clean, [name, recipe])],
        "verbosity": 2,
        # doit would catch what is printed by exchanging sys.stdout under other threads' feet.
        "io": {"capture": False},
        "meta": {"stages": stages, "stage": name, "recipe": recipe},
    }


def is_fresh(name: str, stage: Stage, recipe: Recipe) -> bool:
    """Return whether a stage's result is what its inputs ask for, and untouched."""
    receipt = manifest.of(recipe.name, name)
    if receipt is None:
        return False
    try:
        key = manifest.key_of(name, inputs.gather(stage, recipe))
    except (NotReady, UserError, OSError):
        return False
    if receipt.key != key or not manifest.intact(receipt, paths.output(recipe.name, name)):
        return False
    drifted = getattr(stage, "drifted", None)
    return not (drifted and drifted(recipe))


# What is known in this process, by folder: asked once a stage, not once for each stage after it.
_fresh: dict[Path, bool] = {}


def is_fresh_through(stages: Mapping[str, Stage], name: str, recipe: Recipe) -> bool:
    """Return whether a stage is fresh and so is every stage before it."""
    place = paths.output(recipe.name, name)
    if place not in _fresh:
        before = inputs.stages_before(stages[name], recipe)
        earlier = all(is_fresh_through(stages, each, recipe) for each in before)
        _fresh[place] = earlier and is_fresh(name, stages[name], recipe)
    return _fresh[place]


def known_fresh(stages: Iterable[str], recipe: Recipe) -> list[str]:
    """Return the stages that this process has found fresh, or made."""
    return [name for name in stages if _fresh.get(paths.output(recipe.name, name))]


def act(name: str, stage: Stage, recipe: Recipe) -> TaskFailed | None:
    """Run a stage for doit: every failure that a user can cause becomes one clear message."""
    console.start(f"{name}:{recipe.name}")
    try:
        execute(name, stage, recipe)
        _fresh[paths.output(recipe.name, name)] = True
    except (UserError, OSError) as error:
        return TaskFailed(reason(error, paths.build()))
    except NotReady as error:
        return TaskFailed(
            f"{error} has no result for {recipe.name}; run `doit {error}:{recipe.name}`"
        )
    except KeyboardInterrupt:
        console.say(f"   {name}:{recipe.name} stopped; run doit again to go on")
        raise SystemExit(130) from None
    except Exception:  # noqa: BLE001  # the last resort: no traceback, but a log
        path = paths.log(recipe.name, name)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(traceback.format_exc(), encoding="utf-8")
        return TaskFailed(f"a fault of ours; what happened is in {path}, please report it")
    return None


def execute(name: str, stage: Stage, recipe: Recipe) -> None:
    """Make a stage's result and publish it, unless another build just did."""
    if _takes_part(name, stage, recipe):
        return
    with lock.held(recipe.name, name):
        if not forced() and is_fresh(name, stage, recipe):
            return
        getattr(stage, "settle", _nothing)(recipe)
        before = inputs.gather(stage, recipe)
        key = manifest.key_of(name, before)
        # Two models may share a result, such as their base: the second waits, and takes it over.
        with lock.held(".keys", paths.short(key), f"makes the same {name}"):
            _make(name, stage, recipe, before, key)


def _takes_part(name: str, stage: Stage, recipe: Recipe) -> bool:
    """Return whether this build took part in what another host's makes and publishes."""
    part = getattr(stage, "takes_part", None)
    if part is None or (not forced() and is_fresh(name, stage, recipe)):
        return False
    return bool(part(recipe, manifest.key_of(name, inputs.gather(stage, recipe))))


def forced() -> bool:
    """Return whether people want everything made anew, whatever there is."""
    return bool({"-a", "--always-execute"} & set(sys.argv))


def _make(name: str, stage: Stage, recipe: Recipe, before: dict[str, Any], key: str) -> None:
    """Publish a result: one that a killed build finished, one from the store, or a new one."""
    started = time.monotonic()
    stored = getattr(stage, "STORED", True)
    ready = None if forced() else publish.finished(recipe.name, name, key)
    restored = None if forced() or ready or not stored else store.restore(name, recipe.name, key)
    scratch = ready or restored or _work(name, stage, recipe, before, key)
    receipt = manifest.read(scratch / manifest.NAME)
    assert receipt is not None
    # Before it is published: a run that is killed in between is found finished, and keeps it again.
    kept = stored and not restored and store.keep(receipt, scratch)
    publish.publish(scratch, recipe.name, name)
    if kept:
        from . import room

        room.collect(room.limit())
    _tell(receipt, time.monotonic() - started, "restored" if restored else "built")


def _work(name: str, stage: Stage, recipe: Recipe, before: dict[str, Any], key: str) -> Path:
    """Run the stage in its scratch folder and write the manifest there."""
    resumes = getattr(stage, "RESUMES", False)
    scratch = publish.prepare(recipe.name, name, key, resumes=resumes)
    try:
        facts = stage.run(recipe, scratch)
        if inputs.gather(stage, recipe) != before:
            raise UserError(
                "an input changed while the stage ran, so nothing was recorded; "
                f"run `doit {name}:{recipe.name}` again when it is at rest"
            )
        files = manifest.describe(scratch)
        receipt = Manifest(recipe.name, name, key, before, files, facts)
        manifest.write(receipt, scratch)
    except BaseException:
        if not resumes:
            publish.sweep(recipe.name, name)
        raise
    return scratch


def _tell(receipt: Manifest, seconds: float, how: str) -> None:
    """Note a run in the ledger, and say what came of it."""
    told = {"key": receipt.key, "seconds": round(seconds, 3), "bytes": receipt.size, "how": how}
    commands = process.ran.pop(paths.log(receipt.model, receipt.stage), [])
    more = {"commands": commands} if commands else {}
    ledger.note(receipt.model, receipt.stage, **told, **more)
    took = f"{console.duration(seconds)}{', restored' * (how == 'restored')}"
    console.say(f"   {console.summary(receipt)}  ({took})")


def _nothing(recipe: Recipe) -> None:
    """Settle nothing: the stage has no moving names."""


def clean(name: str, recipe: Recipe, dryrun: bool = False) -> None:
    """Remove a stage's result, its unfinished work and its log; wait for a build that makes it.

    Raises:
        UserError: a job works there although no build does.
        OSError: something cannot be removed.
    """
    if dryrun:
        _clean(name, recipe, dryrun=True)
    elif _remains(name, recipe) or lock.is_held(recipe.name, name):
        with lock.held(recipe.name, name):
            _clean(name, recipe, dryrun=False)


def _clean(name: str, recipe: Recipe, *, dryrun: bool) -> None:
    publish.check_nobody_works(recipe.name, name)
    for path in _remains(name, recipe):
        about = _about(path)
        if not dryrun:
            publish.remove(path)
        console.say(f"{path} {'would be ' * dryrun}removed{about}")


def _remains(name: str, recipe: Recipe) -> list[Path]:
    """Return what there is of a stage: its result, its unfinished work and its log."""
    place, log = paths.output(recipe.name, name), paths.log(recipe.name, name)
    found = [place, *publish.unfinished(recipe.name, name), log]
    return [path for path in found if path.exists() or path.is_symlink()]


def _about(path: Path) -> str:
    """Return what people want to know of a thing before it goes."""
    if path.is_symlink():
        return f" (a link; {path.resolve()} stays)"
    if path.name.startswith("."):
        return f" (unfinished, {console.size(publish.size(path))})"
    return ""
