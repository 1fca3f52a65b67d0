"""Read a YAML file safely: no objects, no repeated keys, and the line of every key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from . import textfile
from .errors import LoadError

KeyPath = tuple[str | int, ...]
SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Anchors let a few lines stand for billions, or for something that contains itself.
DEEPEST, MOST = 40, 50_000
# More than 64 bits need in decimals, and less than Python would refuse to print.
MOST_DIGITS = 20
# What the library raises for a value that does not fit its tag.
UNFIT = (ValueError, LookupError, AttributeError)
# What the parser was at when it gave up, and what that most often comes from.
OPENED = {
    "while parsing a flow mapping": "a comma is missing, or the `{`",
    "while parsing a flow sequence": "a comma is missing, or the `[`",
    "while scanning a quoted scalar": "the quote",
}


class _Judge(SafeLoader):  # type: ignore[misc]  # one of two classes
    """The safe loader, which here tells the line also of a value that does not fit its tag."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except UNFIT:
            kind = node.tag.rpartition(":")[2]
            problem = f"'{node.value}' is no {kind}; put it in quotes if it is text"
            raise _Refused(None, None, problem, node.start_mark) from None


class _Refused(yaml.MarkedYAMLError):
    """YAML, but not as we accept it."""


def load(path: Path) -> tuple[Any, dict[KeyPath, int]]:
    """Return a YAML file's content and, for every key path in it, its line.

    Raises:
        LoadError: the file cannot be read, or is not YAML that we accept.
    """
    return parse(path, textfile.read(path))


def parse(path: Path, text: str) -> tuple[Any, dict[KeyPath, int]]:
    """Return the content of a YAML file's text, and lines as `load` does.

    Raises:
        LoadError: it is not YAML that we accept.
    """
    try:
        content, lines, faults = _parse(text)
    except yaml.MarkedYAMLError as error:
        raise LoadError([f"{path}:{_explain(error, text)}"]) from None
    except yaml.reader.ReaderError as error:
        line = text.encode()[: error.position].count(b"\n") + 1
        raise LoadError([f"{path}:{line}: a control character; remove it"]) from None
    if faults:
        raise LoadError(f"{path}:{fault}" for fault in faults)
    return content, lines


def _parse(text: str) -> tuple[Any, dict[KeyPath, int], list[str]]:
    """Return content, lines and faults."""
    _measure(text)
    loader = SafeLoader(text)
    try:
        node = loader.get_single_node()
        lines: dict[KeyPath, int] = {}
        faults = _walk(node, (), lines) if node else []
        return _construct(loader, node) if node and not faults else None, lines, faults
    finally:
        loader.dispose()


def _measure(text: str) -> None:
    """Refuse what is too deep for the library, which ends the process instead of raising."""
    depth = 0
    events: Iterator[Any] = yaml.parse(text, Loader=SafeLoader)
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            problem = f"nested more than {DEEPEST} deep; write it flatter"
            raise _Refused(None, None, problem, event.start_mark)


def _construct(loader: Any, node: yaml.Node) -> Any:
    """Return a document's content; each value is judged, which takes longer, if one is wrong."""
    try:
        return loader.construct_document(node)
    except UNFIT:
        return _Judge("").construct_document(node)


def _walk(node: yaml.Node, at: KeyPath, lines: dict[KeyPath, int]) -> list[str]:
    """Note the line of everything below `node`; return what is wrong there."""
    if len(at) > DEEPEST or len(lines) > MOST:
        problem = "too much, or an anchor inside itself; write the values out"
        raise _Refused(None, None, problem, node.start_mark)
    lines.setdefault(at, node.start_mark.line + 1)
    faults = list(_wrong(node))
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                faults.append(f"{line}: a key must be a word")
                continue
            here = (*at, key.value)
            if here in lines:
                where = ".".join(map(str, here))
                faults.append(
                    f"{line}: {where}: given twice, first in line {lines[here]}; keep one"
                )
                continue
            lines[here] = line
            faults += _wrong(key)
            faults += _walk(value, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            faults += _walk(item, (*at, position), lines)
    return faults


def _wrong(node: yaml.Node) -> Iterator[str]:
    if node.tag == "tag:yaml.org,2002:int" and len(node.value) > MOST_DIGITS:
        line = node.start_mark.line + 1
        yield f"{line}: a number of more than {MOST_DIGITS} digits; put it in quotes if it is text"


def _explain(error: yaml.MarkedYAMLError, text: str) -> str:
    """Return `line: what is wrong` in words that name the cure."""
    mark = error.problem_mark or error.context_mark
    number = mark.line + 1 if mark else 1
    line = (text.splitlines() or [""])[min(number, len(text.splitlines()) or 1) - 1]
    problem = error.problem or str(error)
    if isinstance(error, _Refused):
        return f"{number}: {problem}"
    if "\t" in line[: len(line) - len(line.lstrip())] or "'\\t'" in problem:
        return f"{number}: a tab; indent with spaces"
    if "could not determine a constructor" in problem:
        return f"{number}: an object tag; a recipe holds plain values only ({problem})"
    if "mapping values are not allowed" in problem:
        return f"{number}: a second `: ` in one line; put a value that holds it in quotes"
    if error.context in OPENED and error.context_mark:
        began = error.context_mark.line + 1
        return f"{number}: not YAML: {OPENED[error.context]} of line {began} is not closed"
    where = f"{error.context}, " if error.context else ""
    return f"{number}: not YAML: {where}{problem}"
