"""From a stage and a recipe to a doit task, and what all tasks do alike when they run."""

from __future__ import annotations

import contextlib
import shutil
import time
import traceback
from pathlib import Path
from typing import Any, Protocol

from doit.exceptions import TaskFailed

from . import console, ledger, lock, manifest, paths, publish, toolchain
from .digests import of_file
from .errors import UserError, refused
from .manifest import Manifest
from .recipe import Recipe

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

    # Two more functions are optional.  `settle(recipe)` writes into the recipe's lock what a moving
    # name stands for, before the inputs are read.  `drifted(recipe)` asks the outside whether a
    # result that is fresh by its manifest is no longer there.


class NotReady(Exception):
    """An input is not there yet."""


def group(name: str, stage: Stage) -> TaskDict:
    """Return the entry that `doit list` shows for a stage."""
    return {"basename": name, "name": None, "doc": (stage.__doc__ or "").splitlines()[0]}


def build(name: str, stage: Stage, recipe: Recipe) -> TaskDict:
    """Complete a stage's own task with what all stages share."""
    task = stage.task(recipe)
    return {
        "basename": name,
        "name": recipe.name,
        **task,
        "file_dep": [str(path) for path in task.get("file_dep", ())],
        "targets": [
            str(paths.manifest(recipe.name, name)),
            *(str(paths.output(recipe.name, name) / target) for target in task.get("targets", ())),
        ],
        "uptodate": [(is_fresh, [name, stage, recipe])],
        "actions": [(act, [name, stage, recipe])],
        "clean": [(clean, [name, recipe])],
        "verbosity": 2,
    }


def inputs(name: str, stage: Stage, recipe: Recipe) -> dict[str, Any]:
    """Return all that can change a stage's result, as the manifest records it.

    Raises:
        NotReady: a stage before this one has no result.
        UserError: a file that the recipe names is missing.
    """
    task = stage.task(recipe)
    found: dict[str, Any] = {"version": stage.VERSION, "recipe": stage.key(recipe)}
    for path in map(Path, task.get("file_dep", ())):
        if path.name == manifest.NAME:
            before = manifest.read(path)
            if before is None:
                raise NotReady(path.parent.name)
            found[path.parent.name] = before.content
        else:
            found[_label(path, recipe)] = _digest(path, recipe)
    for dependency in task.get("task_dep", ()):
        found["toolchain"] = toolchain.digest(dependency.removeprefix("toolchain:"))
    return found


def is_fresh(name: str, stage: Stage, recipe: Recipe) -> bool:
    """Return whether a stage's result is what its inputs ask for, and untouched."""
    receipt = manifest.read(paths.manifest(recipe.name, name))
    if receipt is None:
        return False
    try:
        key = manifest.key_of(name, inputs(name, stage, recipe))
    except (NotReady, UserError, OSError):
        return False
    if receipt.key != key or not manifest.intact(receipt, paths.output(recipe.name, name)):
        return False
    drifted = getattr(stage, "drifted", None)
    return not (drifted and drifted(recipe))


def act(name: str, stage: Stage, recipe: Recipe) -> TaskFailed | None:
    """Run a stage for doit: every failure that a user can cause becomes one clear message."""
    try:
        execute(name, stage, recipe)
    except UserError as error:
        return TaskFailed(str(error))
    except NotReady as error:
        return TaskFailed(
            f"{error} has no result for {recipe.name}; run `doit {error}:{recipe.name}`"
        )
    except OSError as error:
        return TaskFailed(refused(error, paths.build()))
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
    forced = is_fresh(name, stage, recipe)
    with lock.held(recipe.name, name):
        if not forced and is_fresh(name, stage, recipe):
            return
        getattr(stage, "settle", _nothing)(recipe)
        before = inputs(name, stage, recipe)
        key = manifest.key_of(name, before)
        started = time.monotonic()
        ready = None if forced else publish.finished(recipe.name, name, key)
        scratch = ready or _work(name, stage, recipe, before, key)
        publish.publish(scratch, recipe.name, name)
        receipt = manifest.read(paths.manifest(recipe.name, name))
        assert receipt is not None
        seconds = time.monotonic() - started
        ledger.note(recipe.name, name, key=key, seconds=round(seconds, 3), bytes=receipt.size)
        console.say(f"   {console.summary(receipt)}  ({console.duration(seconds)})")


def _nothing(recipe: Recipe) -> None:
    """Settle nothing: the stage has no moving names."""


def _work(name: str, stage: Stage, recipe: Recipe, before: dict[str, Any], key: str) -> Path:
    """Run the stage in its scratch folder and write the manifest there."""
    resumes = getattr(stage, "RESUMES", False)
    scratch = publish.prepare(recipe.name, name, key, resumes=resumes)
    try:
        facts = stage.run(recipe, scratch)
        if inputs(name, stage, recipe) != before:
            raise UserError(
                "an input changed while the stage ran, so nothing was recorded; "
                f"run `doit {name}:{recipe.name}` again when it is at rest"
            )
        files = manifest.describe(scratch)
        receipt = Manifest(recipe.name, name, key, before, files, facts)
        manifest.write(receipt, scratch)
    except BaseException:
        if not resumes:
            shutil.rmtree(scratch, ignore_errors=True)
        raise
    return scratch


def clean(name: str, recipe: Recipe) -> None:
    """Remove a stage's result, its unfinished work and its log."""
    shutil.rmtree(paths.output(recipe.name, name), ignore_errors=True)
    publish.sweep(recipe.name, name)
    paths.log(recipe.name, name).unlink(missing_ok=True)


def _label(path: Path, recipe: Recipe) -> str:
    """Return how the manifest calls an input file: never an absolute path."""
    own = recipe.file.parent
    if path.is_relative_to(own):
        return str(path.relative_to(own))
    return path.name if path.is_absolute() else str(path)


def _digest(path: Path, recipe: Recipe) -> str:
    try:
        return of_file(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {recipe.file} names it") from None
