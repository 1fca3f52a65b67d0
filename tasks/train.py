"""Train with xtuner: the adapter's checkpoints, or the whole model's."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core import console, paths
from .core.engine.stage import Facts, TaskDict
from .core.errors import UserError
from .core.launching.job import Job
from .core.recipe import Recipe, present
from .core.sections import ZERO, Train
from .core.training import checkpoints

if TYPE_CHECKING:
    from .core.launching.history import History
    from .core.training.trainlog import Record

VERSION = 2
# A killed training goes on from its newest checkpoint, in the folder where it was.
RESUMES = True
# A rate below this share of train.lr was never let out of its warm-up.
FROZEN = 0.01


def wanted(recipe: Recipe) -> bool:
    """Return whether the recipe trains."""
    return recipe.train is not None


def task(recipe: Recipe) -> TaskDict:
    train = present(recipe.train)
    zero = train.launch.deepspeed
    job = Job(recipe, train, paths.output(recipe.name, "train"))
    numbers = checkpoints.numbers(recipe.checkpoint, train.max_iters)
    names = ", ".join(f"iter_{number}.pth" for number in numbers) or "iter_N.pth"
    return {
        "doc": f"{train.method}, {train.prompt_template}, {job.shape()} -> {names}",
        "file_dep": [
            *(paths.manifest(recipe.name, s) for s in ("base", "convert", "config")),
            *([job.own_zero] if zero and zero not in ZERO else []),
        ],
        "task_dep": ["toolchain:xtuner"],
        "targets": _left(recipe, [f"iter_{number}.pth" for number in numbers]),
    }


def _left(recipe: Recipe, names: list[str]) -> list[str]:
    """Return checkpoints without those that a finished training did not leave.

    What lacks only these is fresh: the stage that takes one refuses it.
    """
    folder = paths.output(recipe.name, "train")
    done = paths.manifest(recipe.name, "train").exists()
    return [name for name in names if not done or (folder / name).exists()]


def key(recipe: Recipe) -> dict[str, Any]:
    """Return how many devices share a batch; all else is in what the config means.

    On how many nodes the devices are changes nothing, and a preset leaves a step's rows as they
    are; whether it may choose how many go through at once is its to tell.
    """
    train = present(recipe.train)
    values = {
        "devices": train.launch.devices,
        "effective batch": Job(recipe, train, Path()).effective_batch,
        **recipe.slice("train.launch.deepspeed"),
    }
    if not train.preset:
        return values
    from .core import preset

    return {**values, **preset.key(recipe)}


def takes_part(recipe: Recipe, key: str) -> bool:
    """Take part in the training that another host's build does; return whether this one is to."""
    from .core import launching, preset
    from .core.launching import torchrun

    if not torchrun.takes_part():
        return False
    folder = paths.scratch(recipe.name, "train", key)
    job = Job(recipe, preset.choice(recipe).train, folder)
    launching.check(job)
    torchrun.take_part(job, key)
    return True


def goes_on(recipe: Recipe, folder: Path) -> str:
    """Return what a stopped training that left its folder goes on from."""
    from .core import preset

    return _newest(Job(recipe, preset.choice(recipe).train, folder))


def run(recipe: Recipe, folder: Path) -> Facts:
    """Train, follow the log, and keep what is the result: checkpoints and losses."""
    from .core import launching, preset
    from .core.launching.history import History

    choice = preset.choice(recipe)
    job = Job(recipe, choice.train, folder)
    launching.check(job)
    checkpoints.check_left(recipe, job.train)
    checkpoints.drop_broken(folder)
    # In the scratch folder, as it belongs to this key; `_keep_results` takes it away.
    history = History(folder)
    for line in (job.shape(), *preset.expected(recipe, choice), _newest(job)):
        if line:
            console.say(f"   {line}")
    try:
        launching.run(job, _follower(history, job.train))
    finally:
        console.clear()
        history.copy(job.log.with_suffix(".jsonl"))
    _check(recipe, history.records, folder, job.log)
    _keep_results(history.records, folder)
    last = history.records[-1]
    return {
        "iterations": last.total,
        "checkpoint": checkpoints.numbers(recipe.checkpoint, last.total)[-1],
        "batch": job.effective_batch,
        "loss": last.values["loss"],
    }


def _newest(job: Job) -> str:
    """Return a line on the checkpoint that a stopped training goes on from, if there is one."""
    from .core.xtuner import saving

    train = job.train
    found = saving.newest(job.folder, train.accumulative_counts * train.sequence_parallel_size)
    return f"goes on from {found.name}" if found else ""


def _follower(history: History, train: Train) -> Callable[[str], None]:
    """Return what takes a line of the log: its record is kept and shown."""
    from .core.training import trainlog

    said = False

    def follow(line: str) -> None:
        nonlocal said
        record = history.add(line)
        if record is None:
            return
        console.status(record.line())
        advice = "" if said else trainlog.advice(history.records, train.dataloader_num_workers)
        if advice:
            said = True
            console.clear()
            console.say(f"   {advice}")

    return follow


def _check(recipe: Recipe, records: Sequence[Record], folder: Path, log: Path) -> None:
    """Judge what xtuner left: it must have come to its end, and have learned."""
    if not records:
        # From a checkpoint at the end there would be nothing to go on with, however often.
        checkpoints.drop(checkpoints.all_in(folder))
        raise UserError(
            f"xtuner ended without logging a step; see {log}, and run doit again to train anew.  "
            "A template of your own must log more often than training has iterations"
        )
    last = records[-1]
    if not math.isfinite(last.values.get("loss", math.nan)):
        raise UserError(
            f"the loss is {last.values.get('loss')} at iteration {last.iteration}: training "
            f"diverged, see {log}.  Lower train.lr, or raise train.warmup_ratio"
        )
    rates = {record.values.get("lr", 0.0) for record in records}
    if len(records) > 2 and max(rates) < present(recipe.train).lr * FROZEN:
        raise UserError(
            f"the learning rate never rose above {max(rates):.1e}, but train.lr is "
            f"{present(recipe.train).lr}; raise train.warmup_ratio, or train longer"
        )
    _check_checkpoints(recipe, last, folder, log)


def _check_checkpoints(recipe: Recipe, last: Record, folder: Path, log: Path) -> None:
    """See that the last iteration was reached, and that what is wanted can be loaded."""
    from .core.model import export

    names = [path.name for path in checkpoints.all_in(folder)]
    there = ", ".join(names) or "none"
    if f"iter_{last.total}.pth" not in names:
        raise UserError(
            f"training stopped at iteration {last.iteration} of {last.total} and said nothing "
            f"(checkpoints: {there}); see {log}, and run doit again to go on"
        )
    for number in checkpoints.numbers(recipe.checkpoint, last.total):
        export.load(checkpoints.left(recipe, folder, number))


def _keep_results(records: Sequence[Record], folder: Path) -> None:
    """Keep checkpoints, and the losses without their times; what xtuner needs to go on goes."""
    from .core.training import losscurve

    kept = checkpoints.all_in(folder)
    for path in folder.iterdir():
        if path not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    names = ("loss", "lr", "grad_norm")
    lines = [
        json.dumps({"iter": r.iteration, **{n: r.finite[n] for n in names if n in r.finite}})
        for r in records
    ]
    (folder / "losses.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (folder / "loss.svg").write_text(losscurve.svg(records), encoding="utf-8")
