"""Files that a recipe names: on a hub, in a Git repository, behind a URL, or in a folder.

What can move, a branch or a tag, is settled once in the recipe's lock; `doit update:<model>` does
it anew.  A key is computed from the lock and never asks a server.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from .. import console
from ..engine import digests, manifest
from ..errors import UserError, instead, lookalike
from ..recipe import Recipe
from ..sections import Adapter, Base, Source
from . import lockfile

# What a download leaves beside the files that were asked for.
NOT_OURS = frozenset({".git", ".cache", ".gitattributes", ".DS_Store", "__pycache__"})
# The same weights once more, for other programs, where there are safetensors.
DUPLICATES = (
    "original/*", "pytorch_model*.bin", "pytorch_model*.bin.index.json", "*.pth", "*.pt", "*.h5",
    "*.msgpack", "*.ot", "*.onnx", "*.onnx_data", "onnx/*", "openvino/*", "coreml/*", "*.gguf",
    "*.tflite", "consolidated*.safetensors", "*.mlmodel",
)  # fmt: skip
# What an adapter is, of all that training leaves in a folder: states, logs, earlier checkpoints.
ADAPTER = (
    "adapter_config.json", "adapter_model*", "tokenizer*", "special_tokens_map.json",
    "added_tokens.json", "vocab*", "merges.txt", "chat_template*",
)  # fmt: skip


def settle(recipe: Recipe, source: Source, at: str) -> None:
    """Make the lock say what is to be fetched, unless it does already.

    Args:
        at: the part of the recipe, for the lock and for messages.

    Raises:
        UserError: the server does not have it, or does not answer.
    """
    if source.way in ("hub", "modelscope", "git") and _locked(recipe, source, at) is None:
        update(recipe, source, at)


def update(recipe: Recipe, source: Source, at: str) -> None:
    """Look up what the source's revision means now, and keep it in the lock."""
    if source.way == "git":
        from . import gitsource

        settled: dict[str, Any] = {"commit": gitsource.resolve(source)}
    elif source.way in ("hub", "modelscope"):
        commit, found = _hub(source).resolve(source)
        settled = {"commit": commit, "files": choose(source, found)}
    else:
        return
    before = lockfile.read(recipe, at).get("commit")
    lockfile.update(recipe, at, **{"from": _asked(source), "files": None, **settled})
    if before != settled["commit"]:
        console.say(f"   {at}: {source.label} is at {settled['commit']}")


def key(recipe: Recipe, source: Source, at: str) -> dict[str, Any]:
    """Return what a source contributes to a key: its content, wherever it lies.

    Raises:
        NotReady: the lock does not say yet what the revision means.
    """
    if source.way == "path":
        return {f"{at}.files": fingerprint(local(recipe, source, at), source)}
    if source.way == "http":
        return {f"{at}.digest": source.digest}
    found = _locked(recipe, source, at)
    if found is None:
        from ..engine.inputs import NotReady

        raise NotReady(at)
    content = found["files"] or [source.allow, source.ignore]
    return {f"{at}.commit": found["commit"], f"{at}.files": manifest.digest_of(content)}


def fetch(recipe: Recipe, source: Source, at: str, folder: Path) -> str:
    """Fill a folder with a source's files; return their revision.

    Raises:
        UserError: a file cannot be had, or is not what was promised.
    """
    if source.way == "path":
        if not link(local(recipe, source, at), folder, source):
            raise UserError(f"{recipe.file}: {at}.path: {source.path} is empty; put files there")
        return "local"
    if source.way == "http":
        from . import archives

        archives.fetch(source, folder)
        return str(source.digest)
    found = _locked(recipe, source, at)
    assert found is not None
    if source.way == "git":
        from . import gitsource

        gitsource.fetch(source, found["commit"], folder)
    else:
        _hub(source).fetch(source, found["commit"], found["files"], folder)
    return str(found["commit"])


@contextmanager
def named(recipe: Recipe, source: Source, at: str, folder: Path) -> Iterator[None]:
    """Let errors name what the recipe does, not the folder that is filled: refused, it goes."""
    # A URL's query may hold a key.
    origin = local(recipe, source, at) if source.path else source.label.partition("?")[0]
    try:
        yield
    except UserError as error:
        raise UserError(str(error).replace(str(folder), str(origin))) from None


def choose(source: Source, found: dict[str, Any]) -> dict[str, Any]:
    """Return the files to take of those that a server has, in order.

    Raises:
        UserError: a name leads out of the folder or breaks tools; a pattern matches nothing.
    """
    names = [name for name in sorted(found) if not NOT_OURS.intersection(name.split("/"))]
    names = selected(source, names)
    left = duplicates(names) if isinstance(source, Base) and not source.allow else []
    if left:
        size = console.size(sum(found[name]["size"] for name in left))
        shown = ", ".join(left[:3]) + (", ..." if len(left) > 3 else "")
        console.say(
            f"   left out: {len(left)} files ({size}) that repeat the safetensors: {shown}; "
            "`allow:` in the recipe takes them"
        )
    chosen = {name: found[name] for name in names if name not in left}
    for name in chosen:
        check_name(name, source.label)
    return chosen


def selected(source: Source, names: Iterable[str]) -> list[str]:
    """Return the names that the recipe's patterns let through.

    Raises:
        UserError: a pattern matches nothing, or all of them leave nothing.
    """
    known = list(names)
    if isinstance(source, Adapter) and not source.allow:
        known = [name for name in known if _is_of_adapter(name)] or _checkpoint(known)
    for pattern in (*source.allow, *source.ignore):
        if not any(_matches(name, pattern) for name in known):
            raise UserError(f"{source.label}: no file matches '{pattern}'; correct the pattern")
    kept = [
        name
        for name in known
        if (not source.allow or any(_matches(name, pattern) for pattern in source.allow))
        and not any(_matches(name, pattern) for pattern in source.ignore)
    ]
    if not kept:
        raise UserError(f"{source.label}: holds no file to take; look at its patterns and revision")
    return kept


def duplicates(names: Iterable[str]) -> list[str]:
    """Return the files that only repeat weights which are there as safetensors."""
    known = list(names)
    if not any(fnmatchcase(name, "model*.safetensors") for name in known):
        return []
    return [name for name in known if any(_matches(name, pattern) for pattern in DUPLICATES)]


def _is_of_adapter(name: str) -> bool:
    return "/" not in name and any(fnmatchcase(name, pattern) for pattern in ADAPTER)


def _checkpoint(names: Iterable[str]) -> list[str]:
    """Return xtuner's newest checkpoint of those in a folder, and the configs beside it."""
    tops = {name: name.partition("/")[0] for name in names}
    found = {top: int(top[5:-4]) for top in tops.values() if re.fullmatch(r"iter_\d+\.pth", top)}
    newest = max(found, key=found.__getitem__, default=None)
    return [
        name
        for name, top in tops.items()
        if newest and (top == newest or (name == top and top.endswith(".py")))
    ]


def check_name(name: str, label: str) -> None:
    """Refuse a name that would leave the folder, or that not every tool reads alike."""
    parts = PurePosixPath(name).parts
    bad = name.startswith("/") or ".." in parts or "\\" in name or name == manifest.NAME
    if bad or not name.isprintable() or "//" in name:
        raise UserError(f"{label}: a file is called {name!r}; leave it out with `ignore:`")


def local(recipe: Recipe, source: Source, at: str) -> Path:
    """Return the folder of a local source, which is only ever read.

    Raises:
        UserError: there is no such folder.
    """
    assert source.path is not None
    folder = recipe.beside(source.path)
    if not folder.is_dir():
        guess = f"{instead(folder)}{lookalike(folder) or '; correct the path'}"
        raise UserError(f"{recipe.file}: {at}.path: no folder {folder}{guess}")
    return folder


def files(folder: Path, source: Source | None = None) -> list[Path]:
    """Return the files of a folder that a source lets through, in order.

    Raises:
        UserError: a link leads nowhere, a name breaks tools, a pattern matches nothing.
    """
    found = {
        path.relative_to(folder).as_posix(): path
        for path in manifest.walk(folder)
        if not NOT_OURS.intersection(path.relative_to(folder).parts)
    }
    chosen = selected(source, found) if source and found else list(found)
    for name in chosen:
        path = found[name]
        if name == manifest.NAME:
            raise UserError(f"{path}: this name is ours; move the file away")
        check_name(name, str(folder))
        if not path.is_file():
            raise UserError(
                f"{path}: a link that leads nowhere, or no plain file; remove or mend it"
            )
    return [found[name] for name in chosen]


def fingerprint(folder: Path, source: Source | None = None) -> str:
    """Return the digest of all files' names and contents."""
    return manifest.digest_of(
        [[str(path.relative_to(folder)), digests.of_file(path)] for path in files(folder, source)]
    )


def link(folder: Path, into: Path, source: Source | None = None) -> int:
    """Link every file of a folder into a stage's folder; return how many."""
    found = files(folder, source)
    for path in found:
        place = into / path.relative_to(folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(path.resolve())
    return len(found)


def _hub(source: Source) -> Any:
    from . import hub, modelscope

    return modelscope if source.modelscope else hub


def _asked(source: Source) -> dict[str, Any]:
    """Return what the recipe asks for; a lock that answers another question does not count."""
    asked = {
        source.way: source.label,
        "revision": source.revision,
        "allow": list(source.allow),
        "ignore": list(source.ignore),
    }
    return {name: value for name, value in asked.items() if value}


def _locked(recipe: Recipe, source: Source, at: str) -> dict[str, Any] | None:
    found = lockfile.read(recipe, at)
    return found if found.get("from") == _asked(source) else None


def _matches(name: str, pattern: str) -> bool:
    """Match as huggingface_hub does: `*` passes folders, `folder/` means all that is in it."""
    return fnmatchcase(name, f"{pattern}*" if pattern.endswith("/") else pattern)
