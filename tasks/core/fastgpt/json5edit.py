"""Edit a JSON5 text and keep the rest of it: order, comments, indentation, line ends."""

from __future__ import annotations

import json
import re
from typing import Any

from .json5 import BLANK, BREAKS, Node, line_start, tokens

BREAK = re.compile(f"[{BREAKS}]")


def replace(text: str, node: Node, value: Any) -> str:
    """Return the text with another value in the place of one."""
    flat = _is_flat(text[node.start : node.end])
    written = _written(text, value, _indent(text, node.start), flat)
    return text[: node.start] + written + text[node.end :]


def append(text: str, node: Node, value: Any, key: str | None = None) -> str:
    """Return the text with a value put last into an array or, with a key, into an object.

    It is laid out as the part before it is; what the text already holds stays, comments too.
    """
    last = node.parts[-1] if node.parts else None
    close = node.end - 1
    at = len(text[:close].rstrip(BLANK))
    # What stands last before the closing mark may be a line comment: then a new line is a must.
    broken = BREAK.search(text, at, close) is not None
    flat = _is_flat(text[last.start : last.end] if last and key is None else text)
    outer, newline = _indent(text, node.start), _newline(text)
    inner, after, cut, comma = outer + _unit(text), "", at, ""
    if last is None:
        before = "" if flat else newline + inner
        if not broken:
            cut, at, after = close, close, newline + outer if before else ""
    else:
        if _starts_line(text, last.lead) or not broken:
            inner = _indent(text, last.lead)
        before = newline + inner if broken or _starts_line(text, last.lead) else " "
        cut, comma = last.end, "" if node.comma else ","
    name = "" if key is None else json.dumps(key, ensure_ascii=False) + ": "
    # Who ends the last one with a comma ends this one with it, too.
    trailing = "," if node.comma else ""
    piece = before + name + _written(text, value, inner, flat) + trailing + after
    return text[:cut] + comma + text[cut:at] + piece + text[at:]


def remove(text: str, node: Node, part: Node) -> str:
    """Return the text without one of the parts of an array or an object, and its comma.

    A line that holds nothing else goes with it; comments stay.
    """
    marks = {token.start(): token.group() for token in tokens(text)}
    after = min(at for at in marks if at >= part.end)
    before = max(at for at in marks if at < part.lead)
    cuts = [_whole_lines(text, part.lead, after + 1 if marks[after] == "," else part.end)]
    if marks[after] != "," and marks[before] == ",":
        cuts.append((before, before + 1))
    # Nothing is left but the lines that the part stood on.
    rest = text[node.start + 1 : part.lead] + text[part.end : node.end - 1]
    if not rest.strip(",\t\r\n "):
        cuts = [(node.start + 1, node.end - 1)]
    for start, end in cuts:
        text = text[:start] + text[end:]
    return text


def _whole_lines(text: str, start: int, end: int) -> tuple[int, int]:
    """Return a stretch with the rest of its lines, if that is blank; else with the blanks before.

    A break of a line stays: a comment may end with it.
    """
    line = line_start(text, start)
    rest = BREAK.search(text, end)
    if rest and not text[line:start].strip(BLANK) and not text[end : rest.start()].strip(BLANK):
        return line, rest.end() + text.startswith("\r\n", rest.start())
    return len(text[:start].rstrip(" \t")), end


def _written(text: str, value: Any, indent: str, flat: bool) -> str:
    """Return a value in the text's own style, for a line with some indentation."""
    if flat:
        return json.dumps(value, ensure_ascii=False)
    lines = json.dumps(value, ensure_ascii=False, indent=_unit(text))
    return lines.replace("\n", _newline(text) + indent)


def _unit(text: str) -> str:
    """Return the text's step of indentation: that of its first token that has one."""
    starts = (token.start() for token in tokens(text))
    indents = (_indent(text, at) for at in starts if _starts_line(text, at))
    return next(filter(None, indents), "  ")


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def _is_flat(text: str) -> bool:
    """Return whether a text is all on one line."""
    return BREAK.search(text.strip(BLANK)) is None


def _indent(text: str, at: int) -> str:
    """Return the blanks that start a place's line."""
    line = text[line_start(text, at) : at]
    return line[: len(line) - len(line.lstrip(" \t"))]


def _starts_line(text: str, at: int) -> bool:
    return not text[line_start(text, at) : at].strip(BLANK)
