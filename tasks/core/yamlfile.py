"""Read a YAML file safely: no objects, no repeated keys, and the line of every key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from .errors import LoadError

KeyPath = tuple[str | int, ...]
SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load(path: Path) -> tuple[Any, dict[KeyPath, int]]:
    """Return a YAML file's content and, for every key path in it, its line.

    Raises:
        LoadError: the file cannot be read, or is not YAML that we accept.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise LoadError(
            [f"{path}: byte {error.start}: not UTF-8; save the file as UTF-8"]
        ) from None
    except OSError as error:
        raise LoadError([f"{path}: {error.strerror}"]) from None
    loader = SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines: dict[KeyPath, int] = {}
        faults = list(_walk(node, (), lines))
        if faults:
            raise LoadError(f"{path}:{fault}" for fault in faults)
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        raise LoadError([f"{path}:{_explain(error, text)}"]) from None
    except (yaml.YAMLError, ValueError) as error:
        raise LoadError([f"{path}: {error}"]) from None
    finally:
        loader.dispose()


def _walk(node: yaml.Node, at: KeyPath, lines: dict[KeyPath, int]) -> list[str]:
    """Note the line of everything below `node`; return what is wrong there."""
    lines.setdefault(at, node.start_mark.line + 1)
    faults = []
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, key.value) if isinstance(key, yaml.ScalarNode) else at
            line = key.start_mark.line + 1
            if here in lines:
                where = ".".join(map(str, here))
                faults.append(
                    f"{line}: {where}: given twice, first in line {lines[here]}; keep one"
                )
                continue
            lines[here] = line
            faults += _walk(value, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for position, item in enumerate(node.value):
            faults += _walk(item, (*at, position), lines)
    return faults


def _explain(error: yaml.MarkedYAMLError, text: str) -> str:
    """Return `line: what is wrong` in words that name the cure."""
    mark = error.problem_mark or error.context_mark
    number = mark.line + 1 if mark else 1
    line = (text.splitlines() or [""])[min(number, len(text.splitlines()) or 1) - 1]
    problem = error.problem or str(error)
    if "\t" in line[: len(line) - len(line.lstrip())] or "'\\t'" in problem:
        return f"{number}: a tab; indent with spaces"
    if "could not determine a constructor" in problem:
        return f"{number}: an object tag; a recipe holds plain values only ({problem})"
    return f"{number}: not YAML: {problem}"
