"""What will not serve, said before hours of building: architecture, flags, files, disk.

Errors stop the build, warnings do not; each says what to do.  What is known of vLLM's versions is
in catalog.yaml and in versions.py; a base that does not name its version is not judged by it.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import catalog, console, paths
from ..errors import UserError, nearest
from ..model.safetensors import is_pointer
from ..recipe import Recipe, present
from . import versions


@dataclass(frozen=True)
class Finding:
    """What is wrong, and what to do about it; an error would make an image that cannot serve."""

    text: str
    is_error: bool = True


def check(recipe: Recipe, findings: Iterable[Finding]) -> None:
    """Print the warnings.

    Raises:
        UserError: the errors, all of them.
    """
    errors = []
    for finding in findings:
        if finding.is_error:
            errors.append(f"{recipe.file}: {finding.text}")
        else:
            console.say(f"   warning: {finding.text}")
    if errors:
        raise UserError("\n".join(errors))


def of_recipe(recipe: Recipe, command: Sequence[str], *, has_adapter: bool) -> Iterator[Finding]:
    """Yield what the recipe alone tells; no weights are needed.

    Args:
        command: the image's entrypoint.
        has_adapter: whether the recipe makes or names an adapter.
    """
    image = present(recipe.image)
    if image.serve == "adapter" and not has_adapter:
        yield Finding("image.serve: there is no adapter to serve; say `serve: merged`")
    version = versions.of_image(image.base)
    if version is None:
        return
    yield from _architecture(recipe, version)
    yield from _flags(command, version, "image.base")


def of_runtime(recipe: Recipe, image: str, arguments: Sequence[str]) -> Iterator[Finding]:
    """Yield what an image that serves mounted files does not know of what it is told."""
    named = recipe.onboard and recipe.onboard.runtime
    version = versions.of_image(image)
    if version is not None:
        yield from _flags(arguments, version, "onboard.runtime" if named else "image.base")


def of_files(recipe: Recipe, folder: Path, names: Sequence[str]) -> Iterator[Finding]:
    """Yield what the model's files tell.

    Args:
        names: the files that go into the image.
    """
    image = present(recipe.image)
    pointers = [name for name in names if is_pointer(folder / name)]
    if pointers:
        yield Finding(
            f"{folder / pointers[0]}: a Git LFS pointer, not the file itself"
            f"{f', and {len(pointers) - 1} more' if len(pointers) > 1 else ''}; run `git lfs pull` "
            "there and build again"
        )
    version = versions.of_image(image.base)
    if version is None or image.entrypoint is not None:
        return
    tokenizer, config = (_json(folder / name) for name in ("tokenizer_config.json", "config.json"))
    has_template = "chat_template" in tokenizer or any(
        name.startswith("chat_template.") for name in names
    )
    if not has_template and version >= versions.TEMPLATES:
        yield Finding(
            "image: the model has no chat template (`chat_template` in tokenizer_config.json, or "
            "chat_template.jinja), so vLLM refuses chats; add one to the base, or set an "
            "image.entrypoint with `--chat-template`",
            is_error=False,
        )
    yield from _remote_code(recipe, tokenizer, config)


def of_disk(size: int) -> Iterator[Finding]:
    """Yield whether so many bytes have room in the build folder."""
    place = paths.build().absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if size > free:
        yield Finding(
            f"image.layout: the layers need {console.size(size)} and {paths.build()} has "
            f"{console.size(free)} free; free some, or say `layout: false` and push without a copy"
        )


def of_layers(count: int, most: int, wished: int) -> Iterator[Finding]:
    """Yield whether files had to share layers that would have had their own."""
    if wished > count:
        yield Finding(
            f"image: {wished} layers would be wanted, {most} are allowed; some big files share one",
            is_error=False,
        )


def _architecture(recipe: Recipe, version: versions.Version) -> Iterator[Finding]:
    try:
        architecture = catalog.of(recipe)
    except UserError:
        return  # it is judged when the weights are there
    try:
        row = catalog.find(architecture, recipe.base.label)
    except UserError as error:
        is_error = version < versions.ANYTHING
        told = "refuses it" if is_error else "may run it through Transformers"
        yield Finding(f"image.base: {error}\n  (such a vLLM {told})", is_error)
        return
    first, last = row.vllm.get("first"), row.vllm.get("last")
    ours = ".".join(map(str, version))
    if first and version < versions.parse(first):
        yield Finding(
            f"image.base: {architecture} is served from vLLM {first} on, and the base has {ours}; "
            f"take v{first} or later"
        )
    if last and version > versions.parse(last):
        yield Finding(
            f"image.base: vLLM served {architecture} until {last}, and the base has {ours}; take "
            f"v{last}"
        )
    if present(recipe.image).serve != "adapter":
        return
    marks = row.lora, row.lora_now
    if True not in marks or (version <= versions.DOCUMENT and row.lora is False):
        yield Finding(
            f"image.serve: vLLM has no LoRA for {architecture}, says the catalogue; say "
            "`serve: merged`"
        )
    elif False in marks or None in marks:
        yield Finding(
            f"image.serve: not every version of vLLM has LoRA for {architecture}; try {ours} out, "
            "or say `serve: merged`",
            is_error=False,
        )


def _flags(command: Sequence[str], version: versions.Version, base: str) -> Iterator[Finding]:
    """Yield what a version does not know; `base` is the key that names it."""
    ours = ".".join(map(str, version))
    words = [part for word in command for part in word.split("=", 1)]
    for word in words:
        first = versions.FLAGS.get(word)
        if first and version < first:
            since = ".".join(map(str, first))
            yield Finding(
                f"image: vLLM {ours} does not know {word}, it came with {since}; take a later "
                f"{base}, or leave it out"
            )
    parser = dict(itertools.pairwise(words)).get("--tool-call-parser")
    if parser and version >= versions.FLAGS["--tool-call-parser"]:
        yield from _parser(parser, version, base)


def _parser(parser: str, version: versions.Version, base: str) -> Iterator[Finding]:
    ours = ".".join(map(str, version))
    if not versions.is_known(parser):
        known = frozenset[str]().union(*versions.PARSERS.values())
        yield Finding(
            f"image.tool_parser: {parser}: vLLM {versions.NEWEST} has no such tool parser"
            f"{nearest(parser, known) or f'; correct it, or take a later {base} that has it'}",
            is_error=version <= versions.parse(versions.NEWEST),
        )
    elif (without := versions.lacking(parser)) and version <= versions.parse(without):
        yield Finding(
            f"image.tool_parser: {parser} came after vLLM {without}, and {base} has {ours}; take a "
            f"later {base}"
        )
    elif version < (0, 6, 3) and parser not in versions.FIRST_PARSERS:
        yield Finding(
            f"image.tool_parser: vLLM {ours} has {' and '.join(sorted(versions.FIRST_PARSERS))} "
            f"only; take a later {base}"
        )


def _remote_code(
    recipe: Recipe, tokenizer: dict[str, Any], config: dict[str, Any]
) -> Iterator[Finding]:
    brings_code = "auto_map" in tokenizer or "auto_map" in config
    if recipe.base.trust_remote_code and not brings_code:
        yield Finding(
            "base.trust_remote_code: the model brings no code of its own; leave the key out",
            is_error=False,
        )
    if "auto_map" in tokenizer and not recipe.base.trust_remote_code:
        yield Finding(
            "base.trust_remote_code: the tokenizer is code of the model's own, which vLLM runs "
            "only when told; read that code, then say `trust_remote_code: true`"
        )


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
