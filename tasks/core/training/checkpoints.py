"""The checkpoints that training leaves: iter_N.pth, a file of torch or a folder of DeepSpeed."""

from __future__ import annotations

import re
import shutil
import sys
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from doit import get_var

from ..errors import LoadError, UserError, nearest
from ..recipe import Recipe
from ..sections import Train
from . import iterations

NAME = re.compile(r"iter_(\d+)\.pth")


def asked() -> str:
    """Return what `checkpoint=` on the command line says, or nothing."""
    return get_var("checkpoint") or ""


def override(recipes: Sequence[Recipe]) -> list[Recipe]:
    """Return the recipes with the checkpoint that the command line asks for, if it does.

    As a variable of make's: `doit adapter:m checkpoint=2000` makes what the recipe would make with
    that value, in the same place.

    Raises:
        LoadError: it is no checkpoint, or another variable is set.
    """
    words = [word for word in sys.argv[1:] if "=" in word and not word.startswith("-")]
    for name in (word.partition("=")[0] for word in words):
        if name != "checkpoint":
            guess = nearest(name, ["checkpoint"]) or "; there is only `checkpoint=NUMBER`"
            raise LoadError([f"{name}=: unknown variable on the command line{guess}"])
    given = asked()
    if not given:
        return list(recipes)
    if given != "last" and not (given.isdecimal() and int(given)):
        raise LoadError([f"checkpoint={given}: should be `last` or the number of an iteration"])
    wanted = {"checkpoint": given if given == "last" else int(given)}
    return [recipe.model_copy(update=wanted) if recipe.train else recipe for recipe in recipes]


def numbers(wanted: int | str | Sequence[int | str], last: int | None = None) -> tuple[int, ...]:
    """Return the iterations that a recipe's `checkpoint` asks for, in their order.

    Args:
        last: the last iteration, which `last` stands for and `best` needs at least; where it is
            not known yet, it is left out.
    """
    named = [wanted] if isinstance(wanted, int | str) else wanted
    found = {each if isinstance(each, int) else last for each in named}
    return tuple(sorted(each for each in found if each is not None))


def left_by(train: Train) -> list[int] | None:
    """Return the iterations whose checkpoints a training will leave; None where epochs decide."""
    if train.max_iters is None:
        return None
    saved = sorted(
        {*range(train.save_steps, train.max_iters + 1, train.save_steps), train.max_iters}
    )
    return saved[-train.save_total_limit :] if train.save_total_limit > 0 else saved


def check_left(recipe: Recipe, train: Train) -> None:
    """Refuse a checkpoint that training is not going to leave, before days are spent on it.

    Raises:
        UserError: the recipe takes such a one.
    """
    wanted, left = numbers(recipe.checkpoint, train.max_iters), left_by(train)
    missing = [each for each in wanted if left is not None and each not in left]
    if missing:
        raise _not_left(recipe, missing[0], left or [])
    most = iterations.most(recipe, train)
    missing = [each for each in wanted if most and not iterations.may_leave(train, most, each)]
    if missing:
        raise UserError(
            f"{recipe.file}: checkpoint: iter_{missing[0]}.pth will not be left: training takes "
            f"about {most} iterations, and saves at every {train.save_steps} of them and at the "
            "last; take one that is saved and kept, or say `last`"
        )


def left(recipe: Recipe, folder: Path, wanted: int) -> Path:
    """Return a checkpoint that training left in a folder.

    Raises:
        UserError: it did not leave that one.
    """
    path = folder / f"iter_{wanted}.pth"
    if not path.exists():
        raise _not_left(recipe, wanted, map(number, all_in(folder)))
    return path


def _not_left(recipe: Recipe, wanted: int, there: Iterable[int]) -> UserError:
    names = ", ".join(f"iter_{each}.pth" for each in there) or "none"
    return UserError(
        f"{recipe.file}: checkpoint: iter_{wanted}.pth is not among the checkpoints that training "
        f"leaves ({names}); take one of these, or mend train.save_steps or train.save_total_limit"
    )


def number(path: Path) -> int:
    """Return the iteration of a checkpoint."""
    found = NAME.fullmatch(path.name)
    assert found
    return int(found[1])


def all_in(folder: Path) -> list[Path]:
    """Return the checkpoints in a folder, oldest first."""
    return sorted((p for p in folder.iterdir() if NAME.fullmatch(p.name)), key=number)


def newest(folder: Path) -> Path | None:
    """Return the newest whole checkpoint in a folder, if any."""
    whole = [path for path in all_in(folder) if is_whole(path)]
    return whole[-1] if whole else None


def is_whole(path: Path) -> bool:
    """Return whether a checkpoint was written to its end: a zip's table of contents comes last.

    A folder of DeepSpeed's must hold the parts of every process, too.
    """
    if path.is_dir():
        from ..model import zero

        return all(map(zipfile.is_zipfile, path.glob("*.pt"))) and zero.is_whole(path)
    return zipfile.is_zipfile(path)


def drop_broken(folder: Path) -> None:
    """Remove checkpoints that a kill cut short; they must not be resumed from, or kept."""
    drop(path for path in all_in(folder) if not is_whole(path))


def drop(paths: Iterable[Path]) -> None:
    """Remove checkpoints."""
    for path in paths:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
