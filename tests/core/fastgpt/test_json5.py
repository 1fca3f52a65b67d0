"""Reading JSON5: the values, their places, and where a text goes wrong."""

from __future__ import annotations

import json
import math
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.core.fastgpt import json5

BLANKS = [
    *("", "", "", " ", "\t", "\n  ", "\r\n", "\ufeff", "\u2028"),
    *(' // ] } , " a\n', "//\r", "// a\u2028", "/* ' */", "/**/ "),
]
WORDS = st.text(string.ascii_letters + "$_", min_size=1, max_size=5)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def written(draw: st.DrawFn, value: Any) -> str:
    """Return a value as JSON5, in a style drawn for every token of it."""
    blank = draw(st.sampled_from(BLANKS))
    after = draw(st.sampled_from(BLANKS))
    if isinstance(value, dict):
        parts = [f"{_key(draw, key)}{after}:{written(draw, value[key])}" for key in value]
        return f"{blank}{{{_joined(draw, parts)}{after}}}{after}"
    if isinstance(value, list):
        return f"{blank}[{_joined(draw, [written(draw, item) for item in value])}{after}]{after}"
    if isinstance(value, str):
        return f"{blank}{_quoted(draw, value)}{after}"
    return f"{blank}{json.dumps(value)}{after}"


def _joined(draw: st.DrawFn, parts: list[str]) -> str:
    return ",".join(parts) + draw(st.sampled_from(["", ","])) * bool(parts)


def _key(draw: st.DrawFn, key: str) -> str:
    bare = key and all(letter in string.ascii_letters + "$_" for letter in key)
    before = draw(st.sampled_from(BLANKS))
    return before + (key if bare and draw(st.booleans()) else _quoted(draw, key))


def _quoted(draw: st.DrawFn, text: str) -> str:
    if draw(st.booleans()):
        return json.dumps(text, ensure_ascii=draw(st.booleans()))
    inner = json.dumps(text)[1:-1].replace('\\"', '"').replace("'", "\\'")
    return f"'{inner}'"


@st.composite
def documents(draw: st.DrawFn, values: st.SearchStrategy[Any] = VALUES) -> tuple[str, Any]:
    """Return a JSON5 text and what it says."""
    value = draw(values)
    return written(draw, value), value


@given(documents())
def test_any_style_of_writing_is_read(document: tuple[str, Any]) -> None:
    text, value = document
    assert json5.parse(text).value == value


@given(VALUES, st.sampled_from([None, 2, "\t"]))
def test_json_is_read_as_json_reads_it(value: Any, indent: Any) -> None:
    text = json.dumps(value, indent=indent)
    assert json5.parse(text).value == json.loads(text)


@given(documents())
def test_every_part_is_found_at_its_place(document: tuple[str, Any]) -> None:
    text, _ = document
    nodes = [json5.parse(text)]
    while nodes:
        node = nodes.pop()
        assert json5.parse(text[node.start : node.end]).value == node.value
        nodes += node.parts


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("+0x1F", 31),
        ("-.5e1", -5.0),
        ("5.", 5.0),
        ("-Infinity", -math.inf),
        ("Infinity", math.inf),
        (r"'\x41\u0042\'\v\0'", "AB'\v\0"),
        ("'a\\\r\nb\\\nc'", "abc"),
        (r"'😀 \ud83d\ude00'", "😀 😀"),
        ("{a: 1, a: 2}", {"a": 2}),
        ("{Infinity: 1, null: 2,}", {"Infinity": 1, "null": 2}),
        ("9" * 5000, math.inf),
    ],
)
def test_what_json_has_not_is_read_too(text: str, value: Any) -> None:
    assert json5.parse(text).value == value


def test_not_a_number_is_read() -> None:
    assert math.isnan(json5.parse("-NaN").value)


def test_of_a_key_given_twice_the_last_counts() -> None:
    node = json5.parse("{a: 1, a: 2}").member("a")
    assert node is not None
    assert node.value == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "1:1: expected a value, found the end of the file"),
        ("// only a comment", "1:18: expected a value, found the end of the file"),
        ('{\n  "a": [1,\r\n    2 3]\n}', "3:7: expected ',' or ']', found 3"),
        ("{\n'a' 1}", "2:5: expected ':', found 1"),
        ('{"token" "sk-1"}', "1:10: expected ':', found a string"),
        ("{1: 2}", "1:2: expected a key, found 1"),
        ("[,]", "1:2: expected a value, found ,"),
        ("[1,,]", "1:4: expected a value, found ,"),
        ("[01]", "1:3: expected ',' or ']', found 1"),
        ("{} {}", "1:4: expected the end of the file, found {"),
        ('["a\nb"]', "1:2: a string that does not end in its line, or holds a bad escape"),
        (r"['\u00g0']", "1:2: a string that does not end in its line, or holds a bad escape"),
        ("[1] /* x", "1:5: a comment that does not end"),
        ("[@]", "1:2: unexpected '@'"),
        ("[True]", "1:2: expected a value, found True"),
    ],
)
def test_what_is_no_json5_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(json5.Malformed) as caught:
        json5.parse(text)
    assert str(caught.value) == message


def test_a_text_nested_beyond_measure_is_refused() -> None:
    with pytest.raises(json5.Malformed, match="nested too deeply"):
        json5.parse("[" * 100_000)
