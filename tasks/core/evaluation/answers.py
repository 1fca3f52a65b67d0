"""Models' answers to prompts: made once for each model and prompts, then kept in the store.

What is done with the answers is no part of their key: another gate or other expected calls judge
the same answers again, and the base answers once however often it is tuned.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import console, xtuner
from ..engine import cas, manifest, publish, stage, store
from ..engine.manifest import Manifest
from ..errors import CommandFailed, UserError
from ..recipe import Recipe, present
from ..toolchains import toolchain
from ..xtuner import DATA_FAULT
from .prompts import Prompt

VERSION = 1
STAGE = "answers"

# For each prompt, the answer to each of its turns.
Answers = list[list[str]]


def ask(
    recipe: Recipe, prompts: Sequence[Prompt], models: Mapping[str, Path], work: Path, log: Path
) -> dict[str, Answers]:
    """Return what models on disk answer, each by its name.

    Args:
        models: the models' folders, by the names that they are called by.
        work: a folder to work in, which is gone afterwards.

    Raises:
        UserError: a model cannot be put the prompts to.
        CommandFailed: the toolchain's program failed.
    """
    inputs = {name: _inputs(recipe, prompts, place) for name, place in models.items()}
    found = {} if stage.forced() else _kept(recipe, inputs)
    missing = {name: place for name, place in models.items() if name not in found}
    # What stays would pass for answers of now.
    publish.remove(work)
    try:
        if missing:
            _generate(recipe, prompts, missing, work, log)
    finally:
        # What one model answered is worth keeping although the next one failed.
        for name in missing:
            _keep(recipe, inputs[name], work / name)
    found |= {name: read(work / name / "answers.jsonl") for name in missing}
    publish.remove(work)
    return {name: found[name] for name in models}


def are_kept(recipe: Recipe, prompts: Sequence[Prompt], models: Mapping[str, Path]) -> bool:
    """Return whether the store has what every model would answer."""
    keys = (manifest.key_of(STAGE, _inputs(recipe, prompts, model)) for model in models.values())
    return all(cas.look_up(STAGE, key) for key in keys)


def command(
    recipe: Recipe, chats: Path, models: Mapping[str, Path], answered: Mapping[str, Path]
) -> list[str]:
    """Return the command that writes each model's answers into a file."""
    evaluate = present(recipe.evaluate)
    each = (part for name, place in models.items() for part in (name, place, answered[name]))
    return xtuner.program("answer.py", chats, evaluate.max_new_tokens, evaluate.batch_size, *each)


def read(path: Path) -> Answers:
    """Return the answers in a file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def write(path: Path, answers: Sequence[Any]) -> None:
    """Write answers, or the chats that they are to, a line for each prompt."""
    lines = (json.dumps(each, ensure_ascii=False) + "\n" for each in answers)
    path.write_text("".join(lines), encoding="utf-8")


def _inputs(recipe: Recipe, prompts: Sequence[Prompt], model: Path) -> dict[str, Any]:
    """Return all that can change a model's answers."""
    receipt = manifest.read(model / manifest.NAME)
    files = [] if receipt else [asdict(file) for file in manifest.describe(model)]
    return {
        "version": VERSION,
        "recipe": recipe.slice(
            "evaluate.max_new_tokens", "evaluate.batch_size", "base.trust_remote_code"
        ),
        "model": receipt.content if receipt else manifest.digest_of(files),
        "prompts": manifest.digest_of([prompt.chat for prompt in prompts]),
        "toolchain": toolchain.digest("xtuner"),
    }


def _kept(recipe: Recipe, inputs: Mapping[str, Any]) -> dict[str, Answers]:
    """Return the answers that the store has."""
    found = {}
    for name, each in inputs.items():
        place = store.restore(STAGE, recipe.name, manifest.key_of(STAGE, each))
        if place:
            found[name] = read(place / "answers.jsonl")
            shutil.rmtree(place)
    return found


def _keep(recipe: Recipe, inputs: dict[str, Any], place: Path) -> None:
    if (place / "answers.jsonl").is_file():
        key = manifest.key_of(STAGE, inputs)
        receipt = Manifest(recipe.name, STAGE, key, inputs, manifest.describe(place), {})
        manifest.write(receipt, place)
        store.keep(receipt, place)


def _generate(
    recipe: Recipe, prompts: Sequence[Prompt], models: Mapping[str, Path], work: Path, log: Path
) -> None:
    lines: list[str] = []

    def follow(line: str) -> None:
        lines.append(line)
        if line.startswith("answered"):
            console.status(line)

    for name in models:
        (work / name).mkdir(parents=True)
    write(work / "chats.jsonl", [prompt.chat for prompt in prompts])
    answered = {name: work / name / "answers.jsonl" for name in models}
    line = command(recipe, work / "chats.jsonl", models, answered)
    try:
        xtuner.run(line, recipe, log, follow, devices=1)
    except CommandFailed as error:
        if error.status == DATA_FAULT:
            raise UserError(lines[-1]) from None
        raise
    finally:
        console.clear()
