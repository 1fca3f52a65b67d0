"""Choose the checkpoint with the best score.

Where a recipe names several checkpoints, or `best` for all that training leaves, each is merged and
answers the held-out prompts; of equal scores, the one that trained least is taken.  The stages
after this one take the chosen checkpoint as if the recipe had named it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import adapter, merge
from .core import console, paths
from .core.engine import manifest, publish
from .core.engine.stage import Facts, TaskDict
from .core.evaluation import TEMPLATE
from .core.recipe import Recipe, present
from .core.training import checkpoints

if TYPE_CHECKING:
    from .core.evaluation.answers import Answers
    from .core.evaluation.prompts import Prompt

VERSION = 1
# What a killed run has answered is not asked again.
RESUMES = True
SCORE = "tool_call_valid"


def wanted(recipe: Recipe) -> bool:
    """Return whether there are several checkpoints to choose from."""
    return recipe.chooses


def task(recipe: Recipe) -> TaskDict:
    several = recipe.checkpoint if isinstance(recipe.checkpoint, tuple) else ("all checkpoints",)
    return {
        "doc": f"{', '.join(map(str, several))} -> the best by {SCORE}",
        "file_dep": [
            *(paths.manifest(recipe.name, stage) for stage in ("base", "config", "train")),
            recipe.beside(present(recipe.evaluate).prompts),
            paths.TEMPLATES / TEMPLATE,
        ],
        "task_dep": ["toolchain:xtuner"],
        "targets": ["report.json", "report.md"],
    }


def key(recipe: Recipe) -> dict[str, Any]:
    """Return which checkpoints there are to choose from, and how they are asked."""
    return recipe.slice(
        "checkpoint", "merge.with", "merge.shard_size", "base.trust_remote_code",
        "evaluate.max_new_tokens", "evaluate.batch_size",
    )  # fmt: skip


def check(recipe: Recipe) -> None:
    """Refuse prompts that nobody can be asked, before a model is trained for them."""
    from .core.evaluation import prompts

    prompts.of(recipe)


def run(recipe: Recipe, folder: Path) -> Facts:
    """Let every checkpoint answer, and choose."""
    from .core.evaluation import evaluation, prompts

    asked = prompts.of(recipe)
    given: dict[str, Answers] = {}
    for path in candidates(recipe):
        given[path.stem] = _answers(recipe, asked, path, folder)
    report = evaluation.judge(asked, given)
    evaluation.write(folder, f"{recipe.name}: its checkpoints", report, given)
    scores = {name: found[SCORE] for name, found in report["scores"].items()}
    # Candidates are in the order of their iterations, and max takes the first of equal ones.
    best = max(scores, key=lambda name: scores[name])
    number = int(best.removeprefix("iter_"))
    # The stages after this one only ask which one it is.
    content = manifest.digest_of({"checkpoint": number})
    return {"checkpoint": number, "score": scores[best], "scores": scores, "content": content}


def candidates(recipe: Recipe) -> list[Path]:
    """Return the checkpoints to choose from, oldest first.

    Raises:
        UserError: training did not leave one that the recipe names.
    """
    folder = paths.output(recipe.name, "train")
    there = checkpoints.all_in(folder)
    if recipe.checkpoint == "best":
        return there
    named = checkpoints.numbers(recipe.checkpoint, checkpoints.number(there[-1]))
    return [checkpoints.left(recipe, folder, number) for number in named]


def _answers(recipe: Recipe, asked: list[Prompt], path: Path, folder: Path) -> Answers:
    """Return a checkpoint's answers; its merged weights are gone afterwards."""
    from .core.evaluation import answers, evaluation

    done = folder / f"{path.stem}.jsonl"
    if done.is_file():
        return answers.read(done)
    console.status(f"{path.stem}: merging")
    work, log = folder / "work", paths.log(recipe.name, "select")
    publish.remove(work)
    model = {path.stem: _merged(recipe, path, work, log)}
    found = answers.ask(recipe, asked, model, work / "answers", log)[path.stem]
    publish.remove(work)
    new = done.with_suffix(".new")
    answers.write(new, found)
    new.rename(done)
    score = evaluation.judge(asked, {path.stem: found})["scores"][path.stem][SCORE]
    console.say(f"   {path.stem}: {score:.1%} valid")
    return found


def _merged(recipe: Recipe, path: Path, work: Path, log: Path) -> Path:
    """Return the folder with a checkpoint's merged weights, as `merge` would write them."""
    tuned, merged = work / "adapter", work / "merged"
    tuned.mkdir(parents=True)
    merged.mkdir()
    if merge.is_full(recipe):
        merge.write(recipe, path, merged, log)
    else:
        adapter.write(recipe, path, tuned, log)
        merge.write(recipe, tuned, merged, log)
    return merged
