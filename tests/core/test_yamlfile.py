"""YAML: what is read, where it stood, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tasks.core import yamlfile
from tasks.core.errors import LoadError

WHOLE = st.integers(-(2**63), 2**64 - 1)
WORDS = st.text(min_size=1, max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | WHOLE | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=12,
)

TOO_MUCH = "1: too much, or an anchor inside itself; write the values out"
TOO_DEEP = "1: nested more than 40 deep; write it flatter"
TOO_LONG = "a number of more than 20 digits; put it in quotes if it is text"


def write(folder: Path, content: bytes | str) -> Path:
    path = folder / "a.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def fault(folder: Path, content: bytes | str) -> str:
    """Return what load says, without the file's name."""
    path = write(folder, content)
    with pytest.raises(LoadError) as caught:
        yamlfile.load(path)
    return str(caught.value).replace(f"{path}:", "").strip()


@given(VALUES)
def test_what_a_yaml_library_writes_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, value: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(value), encoding="utf-8")
    assert yamlfile.load(path)[0] == value


@given(st.binary(max_size=60) | st.text("{}[]:,&*!?-'\"\t\n #a1", max_size=40).map(str.encode))
def test_any_bytes_are_read_or_refused_with_the_file_named(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    path.write_bytes(content)
    said = ""
    try:
        yamlfile.load(path)
    except LoadError as error:
        said = str(error)
    assert not said or said.startswith(f"{path}:")


def test_every_key_path_has_its_line(tmp_path: Path) -> None:
    _, lines = yamlfile.load(write(tmp_path, "a:\n  b: 1\n  c:\n    - 1\n    - d: 2\n"))
    assert lines[("a",)] == 1
    assert lines[("a", "b")] == 2
    assert lines[("a", "c", 1, "d")] == 5


def test_an_anchor_used_twice_is_fine(tmp_path: Path) -> None:
    content, _ = yamlfile.load(write(tmp_path, "a: &x {k: 1}\nb: *x\nc: {<<: *x, l: 2}\n"))
    assert content == {"a": {"k": 1}, "b": {"k": 1}, "c": {"k": 1, "l": 2}}


@pytest.mark.parametrize("content", ["", "# only a comment\n", "---\n"])
def test_an_empty_file_holds_nothing(tmp_path: Path, content: str) -> None:
    assert yamlfile.load(write(tmp_path, content))[0] is None


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    assert yamlfile.load(write(tmp_path, b"\xef\xbb\xbfa: 1\n"))[0] == {"a": 1}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a: \xff\n", "byte 3: not UTF-8; save the file as UTF-8"),
        (b"a: 1\nb: \x00\n", "2: a control character; remove it"),
        ("a:\n\tb: 1\n", "2: a tab; indent with spaces"),
        ("a: 1\na: 2\n", "2: a: given twice, first in line 1; keep one"),
        ("a: {b: 1, b: 2}\n", "1: a.b: given twice, first in line 1; keep one"),
        ("- {b: 1}\n- {c: 1, c: 2}\n", "2: 1.c: given twice, first in line 2; keep one"),
        ('a: !!int ""\n', "1: '' is no int; put it in quotes if it is text"),
        ("a: !!int ten\n", "1: 'ten' is no int; put it in quotes if it is text"),
        ("a: " + "[" * 5000 + "]" * 5000, TOO_DEEP),
        ("? " + "[" * 5000 + "]" * 5000, TOO_DEEP),
        ("a: &b [*b]", TOO_MUCH),
        ("a: 1\nb: [" + "9" * 5000 + "]", f"2: {TOO_LONG}"),
        ("a: 0x" + "f" * 5000, f"1: {TOO_LONG}"),
        ("9" * 1000 + ": a", f"1: {TOO_LONG}"),
    ],
)
def test_a_fault_is_said_with_its_line(tmp_path: Path, content: bytes | str, said: str) -> None:
    assert fault(tmp_path, content) == said


def test_all_repeated_keys_are_said_in_one_go(tmp_path: Path) -> None:
    assert fault(tmp_path, "a: 1\na: 2\nb: {c: 1, c: 2}\n").count("given twice") == 2


@pytest.mark.parametrize("tag", ["!!python/object:os.system", "!!python/name:os.system", "!own"])
def test_no_tag_makes_an_object(tmp_path: Path, tag: str) -> None:
    assert fault(tmp_path, f"a: 1\nb: {tag} x\n").startswith("2: an object tag")


def test_a_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="No such file"):
        yamlfile.load(tmp_path / "none.yaml")
    with pytest.raises(LoadError, match="Is a directory"):
        yamlfile.load(tmp_path)


def test_what_is_too_deep_for_the_library_does_not_end_the_process(tmp_path: Path) -> None:
    assert fault(tmp_path, "a:\n  " + "[" * 30_000) == TOO_DEEP.replace("1:", "2:")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    with pytest.raises(LoadError, match=r"a\.yaml: not a file; move it away"):
        yamlfile.load(tmp_path / "a.yaml")
