"""recipes/<model>.lock: what the moving names of a recipe were settled to, by part and key.

A tag, a branch or `main` is looked up once and kept here, so that a build tomorrow is the build of
today.  The file is meant to be committed; a line taken out is looked up anew.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from ..engine import lock, whole
from ..errors import LoadError, UserError
from ..recipe import Recipe


def path(recipe: Recipe) -> Path:
    """Return the lock file of a recipe."""
    return recipe.file.with_suffix(".lock")


def read(recipe: Recipe, part: str) -> dict[str, Any]:
    """Return what is settled for a part of a recipe, `image` or `base`; empty where nothing is.

    Raises:
        UserError: the file is not as we write it.
    """
    return dict(_whole(recipe).get(part) or {})


def update(recipe: Recipe, part: str, **settled: Any) -> None:
    """Settle keys of a part; other parts and keys stay, whoever settles them meanwhile.

    Raises:
        UserError: the file is not as we write it, or may not be written here.
    """
    with lock.briefly(recipe.name, path(recipe).name):
        content = _whole(recipe)
        content[part] = {**(content.get(part) or {}), **settled}
        try:
            _write(recipe, content)
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            raise UserError(
                f"{path(recipe)}: new lines of `{part}` cannot be written ({error.strerror}); run "
                "this where the recipe's folder can be written, and commit the file"
            ) from None


def _write(recipe: Recipe, content: dict[str, dict[str, Any]]) -> None:
    import yaml

    head = (
        f"# What the names in {recipe.file.name} stand for; take a line out to look it up anew.\n"
    )
    whole.write(path(recipe), head + yaml.safe_dump(content, allow_unicode=True))


def _whole(recipe: Recipe) -> dict[str, dict[str, Any]]:
    place = path(recipe)
    if not place.exists():
        return {}
    from .. import yamlfile

    try:
        content, _ = yamlfile.load(place)
    except LoadError as error:
        raise UserError(str(error)) from None
    if not isinstance(content, dict | None) or any(
        not isinstance(part, dict) for part in (content or {}).values()
    ):
        raise UserError(f"{place}: should hold parts of `key: value` lines; remove the file")
    return dict(content or {})
