"""Bring along what a model needs beside its weights: settings, tokenizer, licence."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import tokens, tying
from .weights import Model

FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.vocab", "*.py", "LICENSE*")
NOT_THESE = ("manifest.json", "*.index.json", "adapter_config.json")
# A tokenizer in any of its forms.
TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt")
TEMPLATES = ("*.jinja",)


def copy(
    base: Path, folder: Path, changes: Mapping[str, Any], tokenizer: Iterable[Path] = ()
) -> None:
    """Copy what a model needs beside its weights.

    Args:
        changes: values of config.json that are the model's own.
        tokenizer: files that stand for those of the base's tokenizer.
    """
    taken, left = sorted(tokenizer), found(base, NOT_THESE)
    if taken:
        left |= found(base, TOKENIZER)
        # transformers takes a template's own file before the one in a tokenizer's settings.
        if tokens.has_template(taken[0].parent):
            left |= found(base, TEMPLATES)
    for path in [*sorted(found(base, FILES) - left), *taken]:
        shutil.copyfile(path, folder / path.name)
    if changes:
        config = folder / "config.json"
        write(config, tying.changed(json.loads(config.read_text(encoding="utf-8")), changes))


def remove(folder: Path) -> None:
    """Remove what lies beside a model's weights."""
    for path in found(folder, FILES) - found(folder, NOT_THESE):
        path.unlink()


def tokenizer(adapter: Path, before: Model, grown: int | None = None) -> set[Path]:
    """Return an adapter's tokenizer, if tokens were added for the training; it wins.

    Args:
        before: the base.
        grown: how many tokens there are, if not as many as the base has.

    Raises:
        UserError: tokens were added, and there is none; or a file of it is damaged.
    """
    if not grown and not tokens.are_new(adapter, before.folder, tying.rows(before)):
        return set()
    if not found(adapter, TOKENIZER):
        raise UserError(
            f"{adapter}: tokens were added for the training, and no tokenizer is there; copy the "
            "one that it was trained with to the adapter"
        )
    return found(adapter, (*TOKENIZER, *TEMPLATES))


def found(folder: Path, patterns: Iterable[str]) -> set[Path]:
    """Return the files of a folder that match any of some patterns."""
    return {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}


def write(path: Path, config: Mapping[str, Any]) -> None:
    """Write a model's settings."""
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
