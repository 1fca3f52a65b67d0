"""Train with xtuner: the adapter's checkpoints, or the whole model's."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

from .core import checkpoints, console, paths, torchbuild, trainlog, xtuner
from .core.errors import UserError
from .core.recipe import Recipe
from .core.sections import Train
from .core.stage import Facts, TaskDict
from .core.trainlog import Record

VERSION = 1
# A killed training goes on from its newest checkpoint, in the folder where it was.
RESUMES = True


def wanted(recipe: Recipe) -> bool:
    """Return whether the recipe trains."""
    return recipe.train is not None


def task(recipe: Recipe) -> TaskDict:
    train = _train(recipe)
    number = recipe.checkpoint if recipe.checkpoint != "last" else train.max_iters
    return {
        "doc": f"{train.method}, {train.prompt_template} -> iter_{number or 'N'}.pth",
        "file_dep": [paths.manifest(recipe.name, s) for s in ("base", "convert", "config")],
        "task_dep": ["toolchain:xtuner"],
        "targets": [f"iter_{number}.pth"] if number else [],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    """Return how many devices share a batch; all else is in what the config means."""
    return recipe.slice("train.launch.processes", "train.launch.nodes", "train.launch.deepspeed")


def command(recipe: Recipe, folder: Path) -> list[str]:
    """Return the command that trains in a folder, from its last checkpoint if it has one."""
    newest = checkpoints.newest(folder)
    options = ["resume=True", f"load_from={newest.absolute()}"] if newest else []
    if not torchbuild.has_gpu():
        options.append("env_cfg.dist_cfg.backend=gloo")
    extra = ["--cfg-options", *options] if options else []
    return xtuner.command("train", _config(recipe), "--work-dir", folder, *extra)


def run(recipe: Recipe, folder: Path) -> Facts:
    """Train, follow the log, and keep what is the result: checkpoints and losses."""
    _check_machine(recipe)
    checkpoints.drop_broken(folder)
    log = paths.log(recipe.name, "train")
    # In the scratch folder, as it belongs to this key; `_keep_results` takes it away.
    history = folder / "history.jsonl"
    records = _earlier(history, folder)
    aside = history.with_suffix(".new")
    aside.write_text("".join(record.json() for record in records), encoding="utf-8")
    aside.replace(history)
    with history.open("a", encoding="utf-8") as file:

        def follow(line: str) -> None:
            record = trainlog.parse(line)
            if record:
                records.append(record)
                file.write(record.json())
                file.flush()
                console.status(record.line())

        try:
            processes = _train(recipe).launch.processes
            xtuner.run(command(recipe, folder), recipe, log, follow, devices=processes)
        finally:
            console.clear()
            shutil.copyfile(history, log.with_suffix(".jsonl"))
    _check(recipe, records, folder, log)
    _keep_results(records, folder)
    last = records[-1]
    return {"iterations": last.total, "checkpoint": _wanted(recipe, last), **_loss(last)}


def _check_machine(recipe: Recipe) -> None:
    """Refuse what this machine cannot do, before minutes are spent on finding out."""
    train = _train(recipe)
    launch = train.launch
    if launch.processes > 1 or launch.nodes > 1 or launch.deepspeed:
        raise UserError(
            f"{recipe.file}: train.launch: training with several processes, on several nodes or "
            "with DeepSpeed is not built in yet; take processes, nodes and deepspeed out to train "
            f"with one process, or start xtuner by hand with {_config(recipe)}"
        )
    if torchbuild.has_gpu():
        return
    for where, value, cure in (
        ("train.dtype", train.dtype, "float32"),
        ("train.method", train.method, "lora"),
    ):
        if value in ("float16", "bfloat16", "qlora"):
            raise UserError(
                f"{recipe.file}: {where}: {value} needs a GPU and this machine has none; "
                f"say {cure}, or train where there is one"
            )


def _config(recipe: Recipe) -> Path:
    return paths.output(recipe.name, "config") / "config.py"


def _check(recipe: Recipe, records: list[Record], folder: Path, log: Path) -> None:
    """Judge what xtuner left: it must have come to its end, and have learned."""
    if not records:
        raise UserError(f"xtuner ended without training a step; see {log}")
    last = records[-1]
    if not math.isfinite(last.values.get("loss", math.nan)):
        raise UserError(
            f"the loss is {last.values.get('loss')} at iteration {last.iteration}: training "
            f"diverged, see {log}.  Lower train.lr, or raise train.warmup_ratio"
        )
    rates = {record.values.get("lr", 0.0) for record in records}
    if len(records) > 2 and max(rates) < _train(recipe).lr * 0.01:
        raise UserError(
            f"the learning rate never rose above {max(rates):.1e}, but train.lr is "
            f"{_train(recipe).lr}; raise train.warmup_ratio, or train longer"
        )
    wanted = f"iter_{_wanted(recipe, last)}.pth"
    if not (folder / wanted).exists():
        there = ", ".join(sorted(path.name for path in folder.glob("iter_*.pth"))) or "none"
        raise UserError(
            f"{wanted} is not among the checkpoints that training left ({there}); "
            "mend checkpoint, train.save_steps or train.save_total_limit"
        )


def _wanted(recipe: Recipe, last: Record) -> int:
    return last.total if recipe.checkpoint == "last" else recipe.checkpoint


def _loss(last: Record) -> Facts:
    return {"loss": last.values["loss"]}


def _earlier(history: Path, folder: Path) -> list[Record]:
    """Return what a killed training logged up to the checkpoint that it will go on from."""
    newest = checkpoints.newest(folder)
    if newest is None or not history.is_file():
        return []
    records = map(trainlog.from_json, history.read_text(encoding="utf-8").splitlines())
    limit = checkpoints.number(newest)
    return [record for record in records if record and record.iteration <= limit]


def _keep_results(records: list[Record], folder: Path) -> None:
    """Keep checkpoints, and the losses without their times; what xtuner needs to go on goes."""
    for path in folder.iterdir():
        if not path.name.startswith("iter_"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    names = ("loss", "lr", "grad_norm")
    lines = [
        json.dumps({"iter": r.iteration, **{n: r.values[n] for n in names if n in r.values}})
        for r in records
    ]
    (folder / "losses.jsonl").write_text("".join(f"{line}\n" for line in lines))


def _train(recipe: Recipe) -> Train:
    assert recipe.train is not None
    return recipe.train
