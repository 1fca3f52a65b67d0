"""Where a base or a dataset comes from, as people say it: folder, repository, page or URL."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from .. import paths
from ..errors import UserError
from ..sources import archives, hub, modelscope

# Where people stand who call ./doitw, which itself goes to the project.
FROM = "DOITW_FROM"
NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
# A repository's page or what Git clones of it, behind the hub's address.
PAGE = re.compile(
    r"(?P<part>datasets/|models/)?(?P<name>(?!datasets/|models/|spaces/)[\w.-]+/[\w.-]+?)"
    r"(\.git|/summary|/files|/tree/(?P<revision>[^/]+))?"
)
HUBS = ("https://huggingface.co", "https://hf.co", "https://hf-mirror.com")
MODELSCOPES = ("https://modelscope.cn", "https://www.modelscope.cn")


@dataclass(frozen=True)
class Origin:
    """Where files come from.

    Attributes:
        way, value: the recipe's key for it, and what it says there.
        revision: which one was asked for; empty for the usual one.
        folder: where it is on this machine.
    """

    way: str
    value: str
    revision: str = ""
    folder: Path = Path()


def origin(word: str, file: Path, part: str) -> Origin:
    """Return what a word of the user means; a folder beside the recipe is told from there.

    Args:
        file: the recipe.
        part: of which the word is said: base or data.

    Raises:
        UserError: no such folder, no page of a repository of this part, or a word that is neither
            folder, repository nor URL.
    """
    for way, address in _servers():
        if word.startswith(f"{address}/"):
            return _page(way, word, word.removeprefix(address), part)
    if word.startswith("modelscope:"):
        return Origin("modelscope", word.removeprefix("modelscope:"))
    if "://" in word or word.endswith(".git"):
        path, _, _ = word.partition("?")
        is_archive = word.startswith("http") and path.endswith(archives.SUFFIXES)
        return Origin("http" if is_archive else "git", word)
    # By its name, as a shell goes there.
    folder = Path(os.path.abspath(Path(os.environ.get(FROM, ""), paths.expand(word))))  # noqa: PTH100
    if folder.is_dir():
        return Origin("path", _spelled(folder, file.absolute()), folder=folder)
    if word.startswith((".", "/", "~")) or not NAME.fullmatch(word):
        raise UserError(
            f"{word}: no such folder; name one that is there, or a repository as owner/name"
        )
    return Origin("hub", word)


def _servers() -> Iterator[tuple[str, str]]:
    yield from (("hub", address) for address in (*HUBS, hub.endpoint()))
    yield from (("modelscope", address) for address in (*MODELSCOPES, modelscope.endpoint()))


def _page(way: str, word: str, path: str, part: str) -> Origin:
    """Return the repository that a page of a hub shows."""
    found = PAGE.fullmatch(re.sub(r"[?#].*", "", path).strip("/"))
    if not found:
        raise UserError(f"{word}: not a repository's page; name the repository, as owner/name")
    is_data = found["part"] == "datasets/"
    if is_data != (part == "data"):
        shown, wanted = ("a dataset", "a model") if is_data else ("a model", "a dataset")
        raise UserError(f"{word}: the page of {shown}; name {wanted} as --{part}")
    return Origin(way, found["name"], unquote(found["revision"] or ""))


def _spelled(folder: Path, file: Path) -> str:
    """Return a folder as a recipe has it: from its own, if both are among the recipes."""
    if folder.is_relative_to(file.parent):
        return os.path.relpath(folder, file.with_suffix(""))
    return str(folder)
