"""recipes/schema.json, for editors: the recipe's model, in the words of recipes/README.md.

Run by hand after an edit of either:  python -m tasks.core.schema
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .recipe import NOT_WRITTEN, Recipe, section_of
from .sections import Section

README = Path("recipes/README.md")
SCHEMA = Path("recipes/schema.json")
ROW = re.compile(
    r"^\| `(?P<key>[\w.]+)` \| (?P<default>.*?) \| (?P<stages>.*?) \| (?P<words>.*?) \|$"
)


def key_paths(section: type[Section] = Recipe, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every key path of a recipe and its default; `...` where it must be given."""
    for name, field in section.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        inner = section_of(field.annotation)
        if section is Recipe and name in NOT_WRITTEN:
            continue
        if inner:
            yield from key_paths(inner, f"{path}.")
        else:
            yield path, ... if field.is_required() else field.default


def rows() -> dict[str, re.Match[str]]:
    """Return the README's rows by key path."""
    found = map(ROW.match, README.read_text(encoding="utf-8").splitlines())
    return {row["key"]: row for row in found if row}


def spelling(default: Any) -> str:
    """Return a default as the README writes it."""
    if default is ...:
        return "required"
    if default is None or default in ((), {}, ""):
        return "none"
    return f"`{json.dumps(default)}`"


def schema() -> dict[str, Any]:
    """Return the JSON schema of a recipe, each key with its words."""
    made = Recipe.model_json_schema(by_alias=True)
    for name in NOT_WRITTEN:
        made["properties"].pop(name)
        made["required"].remove(name)
    words = {key: _plain(row["words"]) for key, row in rows().items()}
    _describe(made, made, "", words)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made, "title": "Recipe"}


def _describe(node: dict[str, Any], whole: dict[str, Any], path: str, words: Any) -> None:
    """Put the words to the properties of an object and of the objects below it."""
    for name, value in node.get("properties", {}).items():
        key = f"{path}{name}"
        if key in words:
            value["description"] = words[key]
        for option in [value, *value.get("anyOf", [])]:
            reference = option.get("$ref", "").rpartition("/")[2]
            if reference:
                _describe(whole["$defs"][reference], whole, f"{key}.", words)


def _plain(text: str) -> str:
    return text.replace("`", "")


def main() -> None:
    """Write the file."""
    text = json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"
    SCHEMA.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
