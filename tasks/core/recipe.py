"""Recipes: one YAML file describes one model."""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, model_validator
from pydantic_core import to_jsonable_python
from typing_extensions import Self

from . import paths, readbefore, settings, textfile
from .errors import LoadError, nearest
from .sections import (
    Adapter,
    App,
    Base,
    Card,
    Data,
    Evaluate,
    Gateway,
    Image,
    Merge,
    Onboard,
    Section,
    Serve,
    Train,
    Upload,
)

if TYPE_CHECKING:
    from . import yamlfile

# A repository's name in the OCI distribution spec: one word for file, task, image and object key.
NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*")
# So that all of these, with what is put around it, stay within their 255 bytes.
LONGEST = 128
# Of one file.  To find words for each takes longer than to read it.
MOST_FAULTS = 100

# What the file's place tells, and no key of it.
NOT_WRITTEN = ("name", "file")

T = TypeVar("T")


def _checkpoint(value: Any) -> Any:
    """Accept `last`, `best`, the number of an iteration, or a list of numbers and `last`."""
    if isinstance(value, list | tuple):
        if not value or any(each == "best" or isinstance(each, list) for each in value):
            raise ValueError("a list should hold numbers of iterations, or `last`")
        named = tuple(dict.fromkeys(map(_checkpoint, value)))
        return named if len(named) > 1 else named[0]
    whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if whole or value in ("last", "best"):
        return value
    raise ValueError("should be `last`, `best`, the number of an iteration, or a list of them")


Checkpoint = Annotated[
    int | Literal["last", "best"] | tuple[int | Literal["last"], ...], BeforeValidator(_checkpoint)
]


# Pydantic's kinds of value, in our words.
PLAINLY = {
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "int_from_float": "a whole number",
    "list": "a list, such as [a, b]",
    "tuple": "a list, such as [a, b]",
}


class Recipe(Section):
    """What a model is made of.  A part that is absent asks for no stage."""

    name: str = Field(exclude=True)
    file: Path = Field(exclude=True)
    base: Base
    data: Data | None = None
    train: Train | None = None
    checkpoint: Checkpoint = "last"
    adapter: Adapter | None = None
    merge: Merge = Merge.model_construct()
    evaluate: Evaluate | None = None
    card: Card = Card.model_construct()
    image: Image | None = None
    upload: Upload | None = None
    onboard: Onboard | None = None
    serve: Serve | None = None
    gateway: Gateway | None = None
    app: App | None = None

    # What the file says, whatever the command line asks for: a preset keeps what was trained by it.
    _written: Checkpoint = PrivateAttr("last")

    def model_post_init(self, context: Any, /) -> None:
        """Keep what the file says."""
        self._written = self.checkpoint

    def beside(self, path: str) -> Path:
        """Return a path that the recipe names, which starts at the recipe's own folder."""
        own = self.file.parent / self.name
        joined = own / paths.expand(path)
        # Where it has no folder, the system cannot go up from it; else links are the system's.
        return joined if own.is_dir() else Path(os.path.normpath(joined))

    @model_validator(mode="after")
    def _can_choose(self) -> Self:
        if self.chooses and (self.adapter or not self.train):
            raise ValueError(
                "checkpoint: there is no `train` that would leave several; take it out"
            )
        if self.chooses and not self.evaluate:
            raise ValueError(
                "checkpoint: give `evaluate: {prompts: FILE}`; its scores tell which one is best"
            )
        return self

    @model_validator(mode="after")
    def _one_adapter(self) -> Self:
        if self.adapter and self.train:
            raise ValueError(
                "adapter: it stands in the place of `train`, whose result nobody would take; take "
                "one of the two out"
            )
        return self

    @property
    def chooses(self) -> bool:
        """Whether there are several checkpoints, of which the best by score is taken."""
        return self.checkpoint == "best" or isinstance(self.checkpoint, tuple)

    @property
    def names_iterations(self) -> bool:
        """Whether the file takes checkpoints by their numbers; `checkpoint=` changes none of it."""
        return self._written not in ("last", "best")

    @property
    def tuned(self) -> bool:
        """Whether the model differs from its base."""
        return self.train is not None or self.adapter is not None

    @property
    def weights(self) -> str:
        """The stage whose folder is the finished model."""
        return "merge" if self.tuned else "base"

    @property
    def gates(self) -> list[str]:
        """The stage that must have passed before the model leaves this machine, if there is one."""
        gate = self.evaluate and self.evaluate.gate.tool_call_valid
        return ["evaluate"] if gate is not None else []

    def slice(self, *prefixes: str) -> dict[str, Any]:
        """Return the values below some key paths, flat: `{"train.lr": 0.0002, ...}`.

        A key that has no value is left out, so that a later release can add keys and wake nothing.
        """
        parts = {prefix.partition(".")[0] for prefix in prefixes}
        below = tuple(f"{prefix}." for prefix in prefixes)
        return {
            key: value
            for part, content in _given(self).items()
            if part in parts
            for key, value in _flatten(content, part)
            if key in prefixes or key.startswith(below)
        }


def present(part: T | None) -> T:
    """Return a part of a recipe where only recipes that have it get: `present(recipe.train).lr`."""
    if part is None:
        raise AssertionError("a stage was asked for that the recipe lacks; this is a fault of ours")
    return part


def load(reserved: frozenset[str] = frozenset()) -> list[Recipe]:
    """Return all recipes of the recipes folder, in the order of their names.

    Args:
        reserved: words that no model may be called, as they are stages or commands.

    Raises:
        LoadError: every fault of every recipe, in one go.
    """
    recipes, broken = survey(reserved)
    if broken:
        raise LoadError(fault for faults in broken.values() for fault in faults)
    return recipes


def survey(reserved: frozenset[str] = frozenset()) -> tuple[list[Recipe], dict[str, list[str]]]:
    """Return the recipes that can be read, as `load` does, and the faults of the others by name.

    Raises:
        LoadError: there is no folder of recipes.
    """
    place, before = folder(), readbefore.recall()
    recipes: dict[readbefore.Given, Recipe] = {}
    broken: dict[str, list[str]] = {}
    for path in sorted((*place.glob("[!.]*.yaml"), *place.glob("[!.]*.yml"))):
        try:
            given = path, textfile.read(path), reserved
            recipes[given] = before.get(given) or _read(*given)
        except LoadError as error:
            broken.setdefault(path.stem, []).extend(map(textfile.printable, error.faults))
    if recipes.keys() != before.keys():
        readbefore.keep(recipes)
    # Of m.yaml and m.yml nobody knows which one is meant.
    return [recipe for recipe in recipes.values() if recipe.name not in broken], broken


def folder() -> Path:
    """Return the folder of recipes.

    Raises:
        LoadError: there is none.
    """
    place = paths.expand(settings.current().recipes)
    if not place.is_dir():
        where = settings.current().where("recipes")
        raise LoadError([f"{place}: no such folder ({where}); make it, or name another"])
    return place


def read(path: Path, reserved: frozenset[str] = frozenset()) -> Recipe:
    """Return the recipe in a file.

    Raises:
        LoadError: every fault in it, each with file, line and key path.
    """
    return _read(path, textfile.read(path), reserved)


def _read(path: Path, text: str, reserved: frozenset[str]) -> Recipe:
    """Return the recipe in a file's text.  What it holds may depend on nothing else."""
    from . import yamlfile  # not needed where all were read before

    faults = [f"{path}: {fault}" for fault in _name_faults(path, reserved)]
    try:
        recipe = _validated(path, *yamlfile.parse(path, text))
    except LoadError as error:
        faults += error.faults
    if len(faults) > MOST_FAULTS:
        faults[MOST_FAULTS:] = [f"{path}: and more; mend these first"]
    if faults:
        raise LoadError(faults)
    return recipe


def _validated(path: Path, content: Any, lines: dict[yamlfile.KeyPath, int]) -> Recipe:
    if not isinstance(content, dict):
        raise LoadError([f"{path}:1: a recipe is `key: value` lines, with `base:` at least"])
    faults = [
        f"{path}:{_line((str(key),), lines)}: {key}: {what}"
        for key in content
        if (what := _key_fault(key))
    ]
    try:
        sections = {key: value for key, value in content.items() if not _key_fault(key)}
        recipe = Recipe(**sections, name=path.stem, file=path)
    except ValidationError as error:
        faults += islice(_faults(path, error, lines), MOST_FAULTS + 1)
    if faults:
        raise LoadError(faults)
    return recipe


def _key_fault(key: Any) -> str:
    if not isinstance(key, str):
        return "a key must be a word; put it in quotes if it is one"
    return "unknown key; the file's name is the model's" if key in NOT_WRITTEN else ""


def _name_faults(path: Path, reserved: frozenset[str]) -> Iterator[str]:
    name = path.name.removesuffix(path.suffix)
    if path.suffix != ".yaml":
        taken = path.with_suffix(".yaml").exists()
        yield f"there is {name}.yaml, too; keep one of them" if taken else f"call it {name}.yaml"
    if fault := name_fault(name, reserved):
        yield fault


def name_fault(name: str, reserved: frozenset[str]) -> str:
    """Return why a model cannot be called so, or nothing."""
    if name in reserved:
        return f"'{name}' is the name of a stage or a command; call the model something else"
    if len(name) > LONGEST:
        return f"'{name[:32]}...' is too long for a model; give it {LONGEST} characters at most"
    if NAME.fullmatch(name):
        return ""
    return (
        f"'{name}' cannot name a model; use small letters and digits, joined by '.', '_' or '-', "
        "as registries want it"
    )


def _faults(
    path: Path, error: ValidationError, lines: dict[yamlfile.KeyPath, int]
) -> Iterator[str]:
    """Yield one line for each of pydantic's findings."""
    for fault in sorted(error.errors(), key=lambda e: _line(e["loc"], lines)):
        # A key that is missing has no line of its own.
        missing = fault["loc"][-1:] if fault["type"] == "missing" else ()
        name = ".".join(map(str, (*_known(fault["loc"], lines), *missing))) or "recipe"
        yield f"{path}:{_line(fault['loc'], lines)}: {name}: {_say(fault)}"


def _known(loc: tuple[Any, ...], lines: dict[yamlfile.KeyPath, int]) -> yamlfile.KeyPath:
    """Return the part of pydantic's location that is a key path; unions add words of their own."""
    at: yamlfile.KeyPath = ()
    for step in loc:
        if (*at, step) in lines:
            at = (*at, step)
    return at


def _line(loc: tuple[Any, ...], lines: dict[yamlfile.KeyPath, int]) -> int:
    return lines.get(_known(loc, lines), 1)


def _say(fault: Any) -> str:
    """Return pydantic's finding in our words."""
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        known = _fields_at(fault["loc"][:-1])
        return (
            f"unknown key{nearest(str(fault['loc'][-1]), known) or '; known: ' + ', '.join(known)}"
        )
    if kind == "missing":
        return "missing; add it"
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        return f"not of the form {context['pattern']}"
    if kind == "string_type":
        return "should be text; put it in quotes"
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "should hold `key: value` lines"
    if kind == "none_required":
        return "cannot be given here; take it out"
    if plain := PLAINLY.get(kind.removesuffix("_parsing").removesuffix("_type")):
        return f"should be {plain}, not {_shown(fault['input'])}"
    if kind == "literal_error":
        guess = nearest(str(fault["input"]), re.findall("'([^']+)'", context["expected"]))
        return f"unknown value{guess}" if guess else f"should be {context['expected']}"
    message: str = fault["msg"]
    return message.removeprefix("Input ").removeprefix("Value error, ")


def _shown(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError):  # a date as a key, for one
        return f"a {type(value).__name__}"
    return text if len(text) <= 40 else f"{text[:37]}..."


def _fields_at(loc: tuple[Any, ...]) -> list[str]:
    """Return the keys that the section at a location knows."""
    section: Any = Recipe
    for step in loc:
        found = section.model_fields.get(step) if isinstance(step, str) else None
        if found is not None:
            section = section_of(found.annotation) or section
    fields = section.model_fields.items()
    return [field.alias or name for name, field in fields if name not in NOT_WRITTEN]


def section_of(annotation: Any) -> type[Section] | None:
    """Return the section inside an annotation such as `Train | None`."""
    options = getattr(annotation, "__args__", (annotation,))
    found = (each for each in options if isinstance(each, type) and issubclass(each, Section))
    return next(found, None)


def _flatten(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the values below a key path, as JSON has them.

    As `model_dump` does, which first makes a schema of all sections: a tenth of `doit plan`.
    """
    plain = _given(value) if isinstance(value, Section) else to_jsonable_python(value)
    if isinstance(plain, dict) and plain:
        for key, inner in plain.items():
            yield from _flatten(inner, f"{prefix}.{key}")
    else:
        yield prefix, plain


def _given(section: Section) -> dict[str, Any]:
    """Return what has a value in a section, by its key."""
    values = vars(section)
    return {key: values[name] for name, key in _keys(type(section)) if values[name] is not None}


@functools.cache
def _keys(kind: type[Section]) -> list[tuple[str, str]]:
    """Return a section's fields and what they are called in the file."""
    fields = kind.model_fields.items()
    return [(name, field.alias or name) for name, field in fields if not field.exclude]
