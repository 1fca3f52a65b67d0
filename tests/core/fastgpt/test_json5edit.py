"""Editing JSON5: the edit is there, and nothing else has changed."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tasks.core.fastgpt import json5, json5edit

from .test_json5 import VALUES, WORDS, documents

ENTRIES: st.SearchStrategy[dict[str, Any]] = st.dictionaries(
    st.sampled_from(["model", "name", "n"]), st.integers() | st.just({}), min_size=1
)
CONFIGS = st.builds(
    lambda before, models, after: {**before, "llmModels": models, **after},
    st.dictionaries(WORDS.map("a".__add__), VALUES, max_size=2),
    st.lists(ENTRIES | VALUES, max_size=3),
    st.dictionaries(WORDS.map("z".__add__), VALUES, max_size=2),
)
# Strings and comments hold blanks of their own, which count.
PIECES = re.compile(
    r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|//[^\n\r\u2028\u2029]*|/\*.*?\*/|\S""", re.S
)


def pieces(text: str) -> list[str]:
    """Return the strings, comments and other characters of a text, without blanks in between."""
    return [piece.rstrip() for piece in PIECES.findall(text)]


def all_said(text: str) -> list[str]:
    """Return a text's pieces without any kind of blank between them."""
    return [piece for piece in pieces(text) if piece.strip(json5.BLANK)]


def models_in(text: str) -> json5.Node:
    """Return the list of models in a config."""
    found = json5.parse(text).member("llmModels")
    assert found is not None
    return found


def inserted(old: str, new: str) -> str:
    """Return the characters that a text has more than before, in order; the rest must be in it."""
    extra, rest = [], iter(new)
    for letter in old:
        for other in rest:
            if other == letter:
                break
            extra.append(other)
        else:
            pytest.fail(f"{letter!r} is gone")
    return "".join([*extra, *rest])


@given(documents(CONFIGS), ENTRIES)
def test_an_entry_is_appended_and_the_rest_says_the_same(
    document: tuple[str, dict[str, Any]], entry: dict[str, Any]
) -> None:
    text, config = document
    models = models_in(text)
    made = json5.parse(json5edit.append(text, models, entry))
    assert made.value == {**config, "llmModels": [*config["llmModels"], entry]}
    assert list(made.value) == list(config)


@given(documents(CONFIGS), ENTRIES)
def test_appending_only_inserts_the_entry_a_comma_and_blanks(
    document: tuple[str, dict[str, Any]], entry: dict[str, Any]
) -> None:
    text, _ = document
    models = models_in(text)
    new = json5edit.append(text, models, entry)
    put = models_in(new)
    without = new[: put.parts[-1].start] + new[put.parts[-1].end :]
    # Before the entry, or after it where the list ends with a comma.
    comma = "," if models.parts else ""
    assert inserted(text, without).strip(" \t\r\n") == comma
    assert sorted(pieces(without)) == sorted([*pieces(text), *comma])


@given(documents(CONFIGS), ENTRIES, st.data())
def test_replacing_changes_nothing_but_the_one_entry(
    document: tuple[str, dict[str, Any]], entry: dict[str, Any], data: st.DataObject
) -> None:
    text, config = document
    models = models_in(text)
    assume(models.parts)
    at = data.draw(st.integers(0, len(models.parts) - 1))
    old = models.parts[at]
    new = json5edit.replace(text, old, entry)
    assert new.startswith(text[: old.start])
    assert new.endswith(text[old.end :])
    rest = config["llmModels"]
    assert json5.parse(new).value["llmModels"] == [*rest[:at], entry, *rest[at + 1 :]]


@given(documents(st.dictionaries(WORDS, VALUES, max_size=3)), ENTRIES)
def test_a_key_is_appended_to_an_object(
    document: tuple[str, dict[str, Any]], entry: dict[str, Any]
) -> None:
    text, config = document
    new = json5edit.append(text, json5.parse(text), [entry], "llm-models")
    assert json5.parse(new).value == {**config, "llm-models": [entry]}
    inserted(text, new)


@given(CONFIGS, ENTRIES, st.sampled_from([None, 2, 4, "\t"]))
def test_json_stays_json(config: dict[str, Any], entry: dict[str, Any], indent: Any) -> None:
    text = json.dumps(config, indent=indent)
    models = models_in(text)
    wanted = {**config, "llmModels": [*config["llmModels"], entry]}
    assert json.loads(json5edit.append(text, models, entry)) == wanted


@given(CONFIGS, ENTRIES, st.sampled_from([2, 4, "\t"]))
def test_a_file_of_one_style_keeps_that_style(
    config: dict[str, Any], entry: dict[str, Any], indent: Any
) -> None:
    config["llmModels"] = [{"model": 1}, *config["llmModels"], {"model": 2}]
    text = json.dumps(config, indent=indent, ensure_ascii=False)
    models = models_in(text)
    wanted = {**config, "llmModels": [*config["llmModels"], entry]}
    made = json5edit.append(text, models, entry)
    assert made == json.dumps(wanted, indent=indent, ensure_ascii=False)


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ('{"a":[]}', '{"a":[{"k": 1}]}'),
        ('{"a":[{"m":1}]}', '{"a":[{"m":1}, {"k": 1}]}'),
        ('{\n  "a": []\n}\n', '{\n  "a": [\n    {\n      "k": 1\n    }\n  ]\n}\n'),
        (
            '{\n\t"a": [\n\t\t// none\n\t]\n}',
            '{\n\t"a": [\n\t\t// none\n\t\t{\n\t\t\t"k": 1\n\t\t}\n\t]\n}',
        ),
        ('{\r\n "a": []\r\n}', '{\r\n "a": [\r\n  {\r\n   "k": 1\r\n  }\r\n ]\r\n}'),
        (
            '{\n  "a": [{\n    "m": 1\n  }, {\n    "m": 2\n  }]\n}',
            '{\n  "a": [{\n    "m": 1\n  }, {\n    "m": 2\n  }, {\n    "k": 1\n  }]\n}',
        ),
        (
            '{\n  "a": [\n    {"m": 1}, // one line each\n  ],\n}',
            '{\n  "a": [\n    {"m": 1}, // one line each\n    {"k": 1},\n  ],\n}',
        ),
        (
            '{\n  "a": [{"m": 1} // no line of its own\n  ]\n}',
            '{\n  "a": [{"m": 1}, // no line of its own\n    {"k": 1}\n  ]\n}',
        ),
        ('{\n  "a": [1 /* c */]\n}', '{\n  "a": [1, /* c */ {"k": 1}]\n}'),
    ],
)
def test_the_entry_is_laid_out_as_its_neighbours_are(text: str, made: str) -> None:
    models = json5.parse(text).member("a")
    assert models is not None
    assert json5edit.append(text, models, {"k": 1}) == made


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("{}", '{"new": [{"k": 1}]}'),
        ('{\n  "a": 1}', '{\n  "a": 1,\n  "new": [\n    {\n      "k": 1\n    }\n  ]}'),
        (
            '{\n  "a": {}, // kept\n  // too\n}\n',
            '{\n  "a": {}, // kept\n  // too\n  "new": [\n    {\n      "k": 1\n    }\n  ],\n}\n',
        ),
    ],
)
def test_a_new_key_is_laid_out_as_the_file_is(text: str, made: str) -> None:
    assert json5edit.append(text, json5.parse(text), [{"k": 1}], "new") == made


@given(documents(CONFIGS), ENTRIES)
def test_what_was_appended_is_removed_again(
    document: tuple[str, dict[str, Any]], entry: dict[str, Any]
) -> None:
    text, config = document
    models = models_in(text)
    new = json5edit.append(text, models, entry)
    put = models_in(new)
    left = json5edit.remove(new, put, put.parts[-1])
    assert json5.parse(left).value == config
    # Blanks beyond ASCII are blanks, too.
    assert all_said(left) == all_said(text)


@given(documents(CONFIGS), st.data())
def test_removing_keeps_the_other_parts_and_all_comments(
    document: tuple[str, dict[str, Any]], data: st.DataObject
) -> None:
    text, config = document
    models = models_in(text)
    assume(models.parts)
    at = data.draw(st.integers(0, len(models.parts) - 1))
    left = json5edit.remove(text, models, models.parts[at])
    rest = config["llmModels"]
    assert json5.parse(left).value == {**config, "llmModels": [*rest[:at], *rest[at + 1 :]]}
    inserted(left, text)
