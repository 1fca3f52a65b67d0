"""What is known of architectures: the rows of catalog.yaml, and which of them a recipe's model is.

No weights are needed.  The file is read when it is first asked for, never while recipes load.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import paths, yamlfile
from .errors import LoadError, UserError, nearest
from .recipe import Recipe

FILE = paths.CORE / "catalog.yaml"
# Where families keep the longest sequence they were made for; vLLM looks at the same keys.
LENGTHS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length",
    "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip
STRETCHED = ("linear", "dynamic", "yarn")


@dataclass(frozen=True)
class Row:
    """One architecture, in one modality.

    Attributes:
        architecture: config.json's `architectures[0]`, as the document spells it.
        aliases: other spellings of it.
        models, examples: families, and names on the Hub.
        modality: what it reads: text, image, video, audio; `+` is several in one prompt.
        lora: the document's mark; None where it does not have the row.
        lora_now: the mark of the newest vLLM; None where that does not serve it.
        vllm: the first and the last version that serve it; None is unknown, or still served.
        tool_parser, template: vLLM's tool parser, xtuner's prompt template; the plurals are by
            prefix of the name on the Hub.
        note: what a user must know.
        document: whether the document has the row.
    """

    architecture: str
    models: tuple[str, ...]
    examples: tuple[str, ...]
    modality: str
    lora_now: bool | None
    vllm: Mapping[str, str | None]
    tool_parser: str | None
    template: str | None
    lora: bool | None = None
    aliases: tuple[str, ...] = ()
    tool_parsers: Mapping[str, str | None] = field(default_factory=dict)
    templates: Mapping[str, str | None] = field(default_factory=dict)
    note: str = ""
    document: bool = True


def find(architecture: str, label: str = "") -> Row:
    """Return the row of an architecture.

    Args:
        label: the model's name on the Hub or its folder; it decides where an architecture has a
            row for text and one for images.

    Raises:
        UserError: the catalogue does not have it.
    """
    known = [row for row in rows() if architecture in (row.architecture, *row.aliases)]
    if not known:
        names = {name for row in rows() for name in (row.architecture, *row.aliases)}
        hint = nearest(architecture, names) or "."
        raise UserError(
            f"{architecture}: not in the catalogue of architectures{hint} "
            f"Name another as `base.architecture` in the recipe, or add a row to {FILE}"
        )
    stem = _stem(label)
    named = [row for row in known if stem in map(_stem, row.examples)]
    return (named or known)[0]


def row(recipe: Recipe) -> Row:
    """Return the row of a recipe's model.

    Raises:
        UserError: as `of` and `find` do.
    """
    return find(of(recipe), recipe.base.label)


def tool_parser(recipe: Recipe) -> str | None:
    """Return vLLM's parser of the tool calls of a recipe's model; None where none is known."""
    try:
        found = row(recipe)
    except UserError:
        return None
    return by_name(found.tool_parsers, recipe.base.label, found.tool_parser)


def of(recipe: Recipe) -> str:
    """Return the architecture of a recipe's model, as recipe, config.json or catalogue tell.

    Raises:
        UserError: none of them tells.
    """
    if recipe.base.architecture:
        return recipe.base.architecture
    listed = _by_example().get(recipe.base.label.strip("/").lower()) if recipe.base.hub else None
    if listed:
        return listed.architecture
    found = config(recipe)
    cure = "say which as `base.architecture` in the recipe"
    if found is None and recipe.base.path:
        path = _folder(recipe) / "config.json"
        raise UserError(f"{recipe.file}: base.path: no file {path}; correct the path, or {cure}")
    if found is None:
        raise UserError(f"{recipe.file}: {recipe.base.label}: architecture unknown; {cure}")
    try:
        return str(found["architectures"][0])
    except (LookupError, TypeError):
        path = _folder(recipe) / "config.json"
        raise UserError(f"{path}: names no architecture (`architectures`); {cure}") from None


def config(recipe: Recipe) -> dict[str, Any] | None:
    """Return the base's config.json, if it is on this machine.

    Raises:
        UserError: it cannot be read.
    """
    path = _folder(recipe) / "config.json"
    cure = "fetch the file again"
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; make it a file that you may read") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}:{error.colno}: {error.msg}; {cure}") from None
    except (UnicodeDecodeError, RecursionError):
        raise UserError(f"{path}: not a JSON file; {cure}") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}:1:1: should be an object, `{{...}}`; {cure}")
    return found


def context_length(recipe: Recipe) -> int | None:
    """Return how many tokens the model was made for, if a config.json on this machine tells."""
    return length(config(recipe) or {})


def length(whole: Mapping[str, Any]) -> int | None:
    """Return how many tokens the model with this config.json was made for, if it tells."""
    inner = whole.get("text_config")
    text = inner if isinstance(inner, dict) else whole
    lengths = [text[key] for key in LENGTHS if type(text.get(key)) is int and text[key] > 0]
    if not lengths:
        return None
    made_for: int = min(lengths)
    scaling = text.get("rope_scaling")
    if not isinstance(scaling, dict):
        return made_for
    kind, factor = scaling.get("rope_type", scaling.get("type")), scaling.get("factor")
    if kind not in STRETCHED or not isinstance(factor, int | float):
        return made_for
    return int(scaling.get("original_max_position_embeddings", made_for) * factor)


def by_name(values: Mapping[str, str | None], label: str, other: str | None) -> str | None:
    """Return the value of the longest prefix that a model's name has, else the other.

    Args:
        label: the name on the Hub, or a folder; of a folder, the last part counts.
    """
    wanted = label.strip("/").lower()
    fits = {
        prefix: value
        for prefix, value in values.items()
        if wanted.startswith(prefix.lower()) or _stem(wanted).startswith(_stem(prefix))
    }
    return fits[max(fits, key=len)] if fits else other


@functools.cache
def rows() -> tuple[Row, ...]:
    """Return all rows, in the order of the file."""
    return read(paths.ROOT / FILE)


def read(path: Path) -> tuple[Row, ...]:
    """Return the rows of a file.

    Raises:
        UserError: the file or a row of it is not as it should be.
    """
    try:
        content, lines = yamlfile.load(path)
    except LoadError as error:
        raise UserError(str(error)) from None
    if not isinstance(content, list):
        raise UserError(f"{path}:1: should be a list of rows, `- architecture: ...`")
    return tuple(_row(path, lines[(number,)], raw) for number, raw in enumerate(content))


def _row(path: Path, line: int, raw: Any) -> Row:
    try:
        lists = {key: _list(key, raw.get(key, [])) for key in ("aliases", "models", "examples")}
        return Row(**{**raw, **lists})
    except (TypeError, AttributeError) as error:
        what = str(error).removeprefix("Row.__init__() ")
        raise UserError(f"{path}:{line}: {what}; write the row as the others are") from None


def _list(key: str, value: Any) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{key}: should be a list, `[...]`")
    return tuple(value)


@functools.cache
def _by_example() -> dict[str, Row]:
    """Return the rows by names on the Hub; rows outside the document come last and correct it."""
    return {example.strip("/").lower(): row for row in rows() for example in row.examples}


def _stem(label: str) -> str:
    return label.rstrip("/").rpartition("/")[2].lower()


def _folder(recipe: Recipe) -> Path:
    """Return where the base's files are: the user's own folder, or the result of `base`."""
    path = recipe.base.path
    return recipe.beside(path) if path else paths.output(recipe.name, "base")
