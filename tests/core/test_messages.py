"""docs/errors.md against the code: every message is there, says where, and says what to do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tasks.core import errorpage
from tasks.core.messages import Message, messages, of_module

ALL = messages()


def test_the_page_has_every_message_of_the_code() -> None:
    """After an edit of a message: python -m tasks.core.errorpage."""
    assert errorpage.PAGE.read_text("utf-8") == errorpage.page()


def test_every_name_in_the_parts_of_the_page_finds_modules() -> None:
    """A module that moved would fall to another part unseen."""
    modules = [path.relative_to("tasks").as_posix() for path in Path("tasks").rglob("*.py")]
    for part, pattern in errorpage.PARTS:
        found = [module for module in modules if re.fullmatch(pattern, module)]
        for name in set(re.findall(r"[a-z0-9]{2,}", pattern)):
            without = re.sub(rf"\b{name}\b", "gone", pattern)
            assert not all(re.fullmatch(without, module) for module in found), (part, name)


def test_every_message_says_what_to_do() -> None:
    """A message does so itself: `what, where; what to do next`.  cures.yaml is for the others."""
    left = [m for m in ALL if not m.has_step and m.text not in errorpage.cures()]

    assert left == []


def test_every_message_says_where() -> None:
    assert [message for message in ALL if not message.has_place] == []


def test_no_cure_is_left_of_a_message_that_is_gone() -> None:
    """Nor of one that says it itself by now."""
    needed = {message.text for message in ALL if not message.has_step}

    assert set(errorpage.cures()) - needed == set()


def test_hundreds_of_messages_are_found() -> None:
    texts = {message.text for message in ALL}

    assert len(texts) > 300
    assert "<file>: train.max_iters: warm-up alone takes two; say 3 or more" in texts
    assert "unknown key; the file's name is the model's" in texts


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ('raise UserError(f"{path}: bad; mend it")', ["<path>: bad; mend it"]),
        ('raise UserError("a; " "say b")', ["a; say b"]),
        ('raise LoadError([f"{a.b}: c {d(1)}" for d in e])', ["<b>: c <d>"]),
        ('raise UserError("a b" if c else "d e")', ["a b", "d e"]),
        ('faults.append(f"{x}: no")', ["<x>: no"]),
        ("raise UserError(str(error))", []),
        ('raise KeyError("not ours")', []),
        ('raise ValueError("not ours")', []),
    ],
)
def test_a_message_is_read_from_the_code(tmp_path: Path, code: str, found: list[str]) -> None:
    path = tmp_path / "stage.py"
    path.write_text(code)

    assert list(of_module(path)) == found


@pytest.mark.parametrize(
    ("text", "has_step"),
    [
        ("<path>: no such file", False),
        ("<path>: no such file; correct the path", True),
        ("MODELWRIGHT_REGISTRY is not set; say where images go", True),
        ("<where>: no answer; is the address right?", True),
        ("unknown key<nearest>", True),
        ("the server does not tell its size", False),
    ],
)
def test_a_next_step_is_told_from_a_complaint(text: str, has_step: bool) -> None:
    assert Message("m.py", text).has_step is has_step
