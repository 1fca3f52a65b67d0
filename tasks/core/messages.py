"""Every message that a user can cause, read from the code that makes it; for docs/errors.md.

A message says what is wrong, where, and what to do next.  What is filled in is shown as <name>.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CODE = Path("tasks")
# What carries a message to the user.
RAISED = frozenset(
    "UserError LoadError Gated NoAnswer Fault Finding CommandFailed TaskFailed".split()
)
# Here pydantic hands a ValueError on, with file, line and key.
VALIDATORS = frozenset({"sections.py", "recipe.py"})
# Their callers put the place before what they say.
FRAMED = VALIDATORS | {"rows.py", "yamlfile.py", "shared.py"}
# What collects faults, and what makes them.
LISTS = frozenset({"faults", "wrong", "errors"})
MAKERS = frozenset(
    "_faults _name_faults _key_fault name_fault _say _explain _message _refused refused refusal "
    "_gated unreachable _wrong".split()
)
# The words that a next step begins with.
VERBS = (
    "accept add ask build call change check choose close confirm convert copy correct delete "
    "describe edit end fetch free get give go indent install keep leave let look lower make mend "
    "merge move name point pull push put quote raise read rebuild remove rename restart run save "
    "say see set shorten sign spell start stop take tell train try unpack unset update use wait "
    "write"
)
STEP = re.compile(
    rf"(?i)(?:^|(?:[;:.,?)]|\bor|\band|\bthen|\bdo not|If [^.]*,) )"
    rf"(?:please |first |then |or |and |for example )*(?:{VERBS.replace(' ', '|')}|log in)\b"
    r"|; `[^`]+`|; [^;]*\?$|please report it|\bshould (?:be|hold|name) |\bone of <|expected `"
    r"|perhaps you meant|; known: |needs <|<(?:cure|guess|nearest|hint|known|instead)>"
    r"|; <\w+> would "
)


@dataclass(frozen=True, order=True)
class Message:
    """A message as the code spells it, and the module that has it."""

    module: str
    text: str

    @property
    def has_step(self) -> bool:
        """Whether it says what to do next."""
        return bool(STEP.search(self.text))

    @property
    def has_place(self) -> bool:
        """Whether it names a file, a key, a setting or a command; callers put that to some."""
        named = re.search(r"<|`|_proxy|MODELWRIGHT_|\b\w+\.\w+", self.text)
        return bool(named) or Path(self.module).name in FRAMED

    @property
    def is_frame(self) -> bool:
        """Whether it only puts a place around another message."""
        return not re.search(r"\w{2}", re.sub(r"<[^>]*>", "", self.text))


def messages(code: Path = CODE) -> list[Message]:
    """Return every message of the code, by module."""
    found = {
        Message(str(path.relative_to(code)), " ".join(text.split()))
        for path in code.rglob("*.py")
        for text in of_module(path)
    }
    return sorted(message for message in found if not message.is_frame)


def of_module(path: Path) -> Iterator[str]:
    """Yield the messages that a module makes."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield from _of_call(node, path.name)
        elif isinstance(node, ast.FunctionDef) and node.name in MAKERS:
            yield from _of_maker(node)
        elif isinstance(node, ast.AugAssign | ast.Assign) and _name(node) in LISTS:
            yield from _texts(node.value)


def _of_maker(function: ast.FunctionDef) -> Iterator[str]:
    """Yield what a function returns; a part that it names first is put in its place."""
    nodes = list(ast.walk(function))
    named = {
        _name(node): _spelled(node.value)
        for node in nodes
        if isinstance(node, ast.Assign) and _name(node) and _spelled(node.value)
    }
    for node in nodes:
        if isinstance(node, ast.Return | ast.Yield) and node.value:
            for text in _texts(node.value):
                yield re.sub(r"<(\w+)>", lambda found: named.get(found[1], found[0]), text)


def _name(node: ast.AugAssign | ast.Assign) -> str:
    target = node.target if isinstance(node, ast.AugAssign) else node.targets[0]
    return target.id if isinstance(target, ast.Name) else ""


def _of_call(node: ast.Call, module: str) -> Iterator[str]:
    called = node.func
    name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
    owner = called.value if isinstance(called, ast.Attribute) else None
    collects = name == "append" and isinstance(owner, ast.Name) and owner.id in LISTS
    validates = name == "ValueError" and module in VALIDATORS
    if name in RAISED or collects or validates:
        for argument in node.args[:1]:
            yield from _texts(argument)


def _texts(node: ast.expr) -> Iterator[str]:
    """Yield the texts that an expression may come to; one word is no message."""
    if isinstance(node, ast.List | ast.Tuple):
        for each in node.elts:
            yield from _texts(each)
    elif isinstance(node, ast.IfExp):
        yield from (*_texts(node.body), *_texts(node.orelse))
    elif isinstance(node, ast.ListComp | ast.GeneratorExp):
        yield from _texts(node.elt)
    elif " " in (text := _spelled(node)):
        yield text


def _spelled(node: ast.expr) -> str:
    """Return a text with what is filled in as <name>; nothing where it is made elsewhere."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_part, node.values))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _spelled(node.left) + _spelled(node.right)
    return _spelled(node.body) if isinstance(node, ast.IfExp) else ""


def _part(node: ast.expr) -> str:
    if isinstance(node, ast.FormattedValue):
        return f"<{_called(node.value)}>"
    return str(node.value) if isinstance(node, ast.Constant) else ""


def _called(node: ast.expr) -> str:
    """Return a short name for what is filled in."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, ast.Call):
        return _called(node.func).lstrip("_")
    if isinstance(node, ast.BoolOp):
        return _called(node.values[0])
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return str(node.slice.value)
    return "..."
