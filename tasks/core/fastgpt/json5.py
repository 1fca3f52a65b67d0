"""Read JSON5 and know where every value stands.

JSON5 (https://spec.json5.org) is JSON with comments, trailing commas, single quotes and bare keys.
Escapes in bare keys are the one part of it that is not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

SPACES = "\t\v\f \u00a0\u1680\u202f\u205f\u3000\ufeff" + "".join(map(chr, range(0x2000, 0x200B)))
BREAKS = "\n\r\u2028\u2029"
BLANK = SPACES + BREAKS
ESCAPE = r"\\(?:u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|\r\n|[^ux1-9])"
TOKEN = re.compile(
    rf"""
    (?P<blank> [{BLANK}]+ | //[^{BREAKS}]* | /\*.*?\*/ )
  | (?P<string> "(?: [^"\\\n\r] | {ESCAPE} )*" | '(?: [^'\\\n\r] | {ESCAPE} )*' )
  | (?P<number> [+-]?(?: 0[xX][0-9a-fA-F]+ | (?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)? | \.[0-9]+)
                         (?:[eE][+-]?[0-9]+)? ) | [+-](?:Infinity|NaN) )
  | (?P<word> (?: [^\W\d] | \$ )(?: \w | \$ )* )
  | (?P<mark> [\[\]{{}},:] )
  | (?P<end> \Z )
    """,
    re.DOTALL | re.VERBOSE,
)
WORDS = {"true": True, "false": False, "null": None}
INFINITE = {"Infinity": float("inf"), "NaN": float("nan")}
ESCAPED = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "0": "\0"}
# A line of a string that ends in a backslash goes on in the next one.
CONTINUED = ("\n", "\r", "\r\n", "\u2028", "\u2029")
# Python refuses to read integers of more than 4300 digits; a float has no use for a tenth of them.
MOST_DIGITS = 400


class Malformed(ValueError):
    """The text is not JSON5; reads `line:column: what is wrong`."""

    def __init__(self, text: str, at: int, what: str) -> None:
        super().__init__(f"{line_of(text, at)}:{at - line_start(text, at) + 1}: {what}")


@dataclass(frozen=True)
class Node:
    """A value and its place, text[start:end].

    Attributes:
        value: the value as plain Python; of a key given twice the last counts, as in JavaScript.
        lead: where its key starts; its own start in an array.
        key: its key in an object.
        parts: the values in an array or an object, in order.
        comma: whether a comma follows the last of the parts.
    """

    value: Any
    start: int
    end: int
    lead: int
    key: str | None = None
    parts: tuple[Node, ...] = ()
    comma: bool = False

    def member(self, key: str) -> Node | None:
        """Return the value that an object has for a key."""
        return next((part for part in reversed(self.parts) if part.key == key), None)


def parse(text: str) -> Node:
    """Return the one value that a text holds.

    Raises:
        Malformed: with line and column.
    """
    reader = _Reader(text)
    try:
        root = reader.value()
    except RecursionError:
        raise Malformed(text, reader.token.start(), "nested too deeply") from None
    reader.expect("", "the end of the file")
    return root


def tokens(text: str) -> Iterator[re.Match[str]]:
    """Yield the tokens of a text, without blanks and comments; the last is its end."""
    at = 0
    while found := TOKEN.match(text, at):
        if found.lastgroup != "blank":
            yield found
        at = found.end()
        if found.lastgroup == "end":
            return
    if text.startswith("/*", at):
        raise Malformed(text, at, "a comment that does not end")
    if text[at] in "\"'":
        raise Malformed(text, at, "a string that does not end in its line, or holds a bad escape")
    raise Malformed(text, at, f"unexpected {text[at]!r}")


def line_of(text: str, at: int) -> int:
    """Return the number of the line that a place is in."""
    return len(re.findall(r"\r\n|\n|\r", text[:at])) + 1


def line_start(text: str, at: int) -> int:
    """Return where the line that a place is in starts."""
    return max(text.rfind("\n", 0, at), text.rfind("\r", 0, at)) + 1


class _Reader:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = tokens(text)
        self.token = next(self.tokens)

    def value(self, key: str | None = None, lead: int | None = None) -> Node:
        start = self.token.start()
        lead = start if lead is None else lead
        if self.skip("["):
            parts, comma, end = self.parts("]", self.value)
            return Node([part.value for part in parts], start, end, lead, key, parts, comma)
        if self.skip("{"):
            parts, comma, end = self.parts("}", self.member)
            value = {part.key: part.value for part in parts}
            return Node(value, start, end, lead, key, parts, comma)
        end = self.token.end()
        return Node(self.scalar(), start, end, lead, key)

    def parts(self, close: str, read: Callable[[], Node]) -> tuple[tuple[Node, ...], bool, int]:
        """Return what a closing mark ends, whether a comma comes before it, and where it ends."""
        parts: list[Node] = []
        comma = False
        while self.token.group() != close:
            if parts and not comma:
                raise self.unexpected(f"',' or '{close}'")
            parts.append(read())
            comma = self.skip(",")
        end = self.token.end()
        self.skip(close)
        return tuple(parts), comma, end

    def member(self) -> Node:
        lead, word, kind = self.token.start(), self.token.group(), self.token.lastgroup
        if kind not in ("string", "word"):
            raise self.unexpected("a key")
        self.skip(word)
        self.expect(":", "':'")
        return self.value(_unquoted(word) if kind == "string" else word, lead)

    def scalar(self) -> Any:
        kind, word = self.token.lastgroup, self.token.group()
        value: Any
        if kind == "string":
            value = _unquoted(word)
        elif kind == "number" or word in INFINITE:
            value = _number(word)
        elif word in WORDS:
            value = WORDS[word]
        else:
            raise self.unexpected("a value")
        self.skip(word)
        return value

    def skip(self, word: str) -> bool:
        """Go on to the next token if this one is `word`."""
        found = self.token.group() == word
        if found and word:
            self.token = next(self.tokens)
        return found

    def expect(self, word: str, what: str) -> None:
        if not self.skip(word):
            raise self.unexpected(what)

    def unexpected(self, wanted: str) -> Malformed:
        # What a string says can be a secret.
        kind, word = self.token.lastgroup, self.token.group()
        found = "a string" if kind == "string" else word[:20] or "the end of the file"
        return Malformed(self.text, self.token.start(), f"expected {wanted}, found {found}")


def _unquoted(token: str) -> str:
    """Return what a string in quotes says."""
    if "\\" not in token:
        return token[1:-1]
    plain = re.sub(ESCAPE, lambda escape: _character(escape.group()[1:]), token[1:-1])
    # Two escapes can stand for one character beyond U+FFFF.
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(escape: str) -> str:
    if escape[0] in "ux":
        return chr(int(escape[1:], 16))
    return "" if escape in CONTINUED else ESCAPED.get(escape, escape)


def _number(word: str) -> float:
    sign, body = (-1 if word[0] == "-" else 1), word.lstrip("+-")
    if body in INFINITE:
        return sign * INFINITE[body]
    if body[:2] in ("0x", "0X"):
        return sign * int(body, 16)
    return sign * (int(body) if body.isdigit() and len(body) <= MOST_DIGITS else float(body))
