"""`doit catalog [PATTERN]`: the architectures, and what vLLM and xtuner have for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from typing import Any

from doit.cmd_base import Command

from .. import catalog
from ..catalog import Row
from . import terminal
from .anyorder import JSON, AnyOrder

HEADS = ("ARCHITECTURE", "MODALITY", "LORA", "NOW", "VLLM", "TOOL PARSER", "TEMPLATE", "EXAMPLE")
LEAST_NEEDED = ("EXAMPLE", "MODALITY", "LORA", "NOW", "TEMPLATE")


class Catalog(AnyOrder, Command):  # type: ignore[misc]  # doit is untyped
    """`doit catalog [PATTERN]`: the rows whose names have a text in them, or match `*`."""

    doc_purpose = "show architectures: LoRA, versions of vLLM, tool parser, template"
    doc_usage = "[PATTERN]"
    doc_description = (
        "PATTERN is a part of an architecture's, family's or repository's name; `*` stands for "
        "anything.  LORA is the document's mark (vLLM 0.4.1), NOW the newest vLLM's; VLLM the "
        "versions that serve it.  A narrow terminal gets fewer columns; --json has all.  "
        "Exit status 1 when nothing matches."
    )
    cmd_options = (JSON,)

    def execute(self, opt_values: dict[str, Any], pos_args: list[str]) -> int:
        """Print the rows; doit calls this."""
        found = [row for row in catalog.rows() if all(is_like(row, word) for word in pos_args)]
        if opt_values["json"]:
            terminal.write_json([asdict(row) for row in found])
        elif found:
            terminal.write(table(found, terminal.columns()))
        else:
            terminal.write([f"no architecture like {' '.join(pos_args)}; `doit catalog` shows all"])
        return int(not found)


def is_like(row: Row, pattern: str) -> bool:
    """Return whether one of a row's names has a text in it; case does not matter."""
    wanted = pattern.lower()
    wanted = wanted if "*" in wanted else f"*{wanted}*"
    names = (row.architecture, *row.aliases, *row.models, *row.examples)
    return any(fnmatchcase(name.lower(), wanted) for name in names)


def table(rows: Iterable[Row], wide: int | None) -> list[str]:
    """Return the rows as lines of columns, heads first; those that do not fit are left out."""
    cells: list[Sequence[str]] = [HEADS, *map(_cells, rows)]
    left = list(HEADS)
    for head in ("", *LEAST_NEEDED):
        left = [name for name in left if name != head]
        shown = [[line[HEADS.index(name)] for name in left] for line in cells]
        widths = [max(map(terminal.width, column)) for column in zip(*shown, strict=True)]
        if wide is None or sum(widths) + 2 * len(widths) - 2 <= wide:
            break
    return terminal.table(shown)


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
