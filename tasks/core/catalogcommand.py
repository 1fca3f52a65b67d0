"""`doit catalog [PATTERN]`: the architectures, and what vLLM and xtuner have for each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any

from doit.cmd_base import Command

from . import catalog, console
from .catalog import Row
from .commands import JSON

HEADS = ("ARCHITECTURE", "MODALITY", "LORA", "NOW", "VLLM", "TOOL PARSER", "TEMPLATE", "EXAMPLE")


class Catalog(Command):  # type: ignore[misc]  # doit is untyped
    """`doit catalog [PATTERN]`: the rows whose names have a text in them, or match `*`."""

    doc_purpose = "show architectures: LoRA, versions of vLLM, tool parser, template"
    doc_usage = "[PATTERN]"
    doc_description = (
        "PATTERN is a part of an architecture's, family's or repository's name; `*` stands for "
        "anything.  LORA is the document's mark (vLLM 0.4.1), NOW the newest vLLM's; VLLM the "
        "versions that serve it.  Exit status 1 when nothing matches."
    )
    cmd_options = (JSON,)

    def execute(self, opt_values: dict[str, Any], pos_args: list[str]) -> int:
        """Print the rows; doit calls this."""
        found = [row for row in catalog.rows() if all(is_like(row, word) for word in pos_args)]
        if opt_values["json"]:
            console.say(json.dumps([asdict(row) for row in found], indent=1, ensure_ascii=False))
        elif found:
            for line in table(found):
                console.say(line)
        else:
            console.say(f"no architecture like {' '.join(pos_args)}; `doit catalog` shows all")
        return int(not found)


def is_like(row: Row, pattern: str) -> bool:
    """Return whether one of a row's names has a text in it; case does not matter."""
    wanted = pattern.lower()
    wanted = wanted if "*" in wanted else f"*{wanted}*"
    names = (row.architecture, *row.aliases, *row.models, *row.examples)
    return any(fnmatchcase(name.lower(), wanted) for name in names)


def table(rows: Iterable[Row]) -> list[str]:
    """Return the rows as lines of columns, heads first."""
    cells: list[Sequence[str]] = [HEADS, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _cells(row: Row) -> Sequence[str]:
    first, last = row.vllm.get("first"), row.vllm.get("last")
    versions = f"{first or '?'} to {last}" if last else f"from {first or '?'}"
    return (
        row.architecture,
        row.modality,
        _mark(row.lora),
        _mark(row.lora_now),
        versions,
        row.tool_parser or _several(row.tool_parsers),
        row.template or _several(row.templates),
        row.examples[0] if row.examples else "",
    )


def _mark(value: bool | None) -> str:
    return "-" if value is None else "yes" if value else "no"


def _several(values: Any) -> str:
    found = sorted({value for value in values.values() if value})
    return "/".join(found) or "-"
