"""Read the LoRA settings out of a rendered config, without running it.

The config is what trained, also where a recipe has a template of its own; `LoraConfig`'s arguments
are taken from its syntax tree, with the names that the file itself gives a plain value.  What the
file changes afterwards is refused: to know it, one would have to run the file.
"""

from __future__ import annotations

import ast
import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

from ..errors import UserError

# The second is what mmengine writes in the copies that it makes of a config.
LORA = ("LoraConfig", "'peft.LoraConfig'")
# PEFT's defaults, as far as they change what an adapter does.
DEFAULTS: dict[str, Any] = {
    "alpha_pattern": {},
    "bias": "none",
    "fan_in_fan_out": False,
    "init_lora_weights": True,
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "modules_to_save": None,
    "peft_type": "LORA",
    "r": 8,
    "rank_pattern": {},
    "target_modules": None,
    "task_type": "CAUSAL_LM",
    "use_dora": False,
    "use_rslora": False,
}


def lora(path: Path) -> dict[str, Any]:
    """Return LoraConfig's arguments, with PEFT's defaults for the rest.

    Raises:
        UserError: there is not just one LoraConfig, an argument is more than a plain value, or
            what holds LoraConfig is changed later.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _makes_lora(node)]
    if len(calls) != 1:
        raise UserError(
            f"{path}: {len(calls)} LoraConfig, expected one; say `merge: {{with: xtuner}}`"
        )
    call, changed = calls[0], _changed(tree)
    for name in sorted(_holders(tree, call) & changed.keys()):
        raise UserError(
            f"{path}:{changed[name]}: {name}, which holds LoraConfig, is changed here; write its "
            "values out where it is made, or say `merge: {with: xtuner}`"
        )
    names = {name: value for name, value in _plain_names(tree).items() if name not in changed}
    found = {}
    for keyword in (*(ast.keyword(value=each) for each in call.args), *call.keywords):
        if keyword.arg != "type":
            found[str(keyword.arg)] = _value(path, keyword, names)
    return {**DEFAULTS, **found}


def _makes_lora(call: ast.Call) -> bool:
    kinds = [keyword.value for keyword in call.keywords if keyword.arg == "type"]
    return any(ast.unparse(kind) in LORA for kind in (*kinds, call.func))


def _changed(tree: ast.Module) -> dict[str, int]:
    """Return the names that do not stay what they are first, and a line that changes each."""
    times: Counter[str] = Counter()
    found: dict[str, int] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            times[node.id] += 1
            if times[node.id] > 1:
                found[node.id] = node.lineno
        elif isinstance(node, ast.Subscript | ast.Attribute):
            if not isinstance(node.ctx, ast.Load):
                found[_root(node)] = node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            # A method may change what it is called of: model.update(...)
            found[_root(node.func)] = node.lineno
    return found


def _holders(tree: ast.Module, call: ast.Call) -> set[str]:
    """Return the names whose values LoraConfig is a part of."""
    found: set[str] = set()
    given = [n for n in ast.walk(tree) if isinstance(n, ast.Assign | ast.AnnAssign) and n.value]
    for node in sorted(given, key=lambda n: n.lineno):
        parts = list(ast.walk(node))
        if call in parts or any(isinstance(p, ast.Name) and p.id in found for p in parts):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = (n for target in targets for n in ast.walk(target))
            found |= {n.id for n in names if isinstance(n, ast.Name)}
    return found


def _root(node: ast.expr) -> str:
    """Return the name that an expression such as a["b"].c begins with, if it does."""
    while isinstance(node, ast.Subscript | ast.Attribute | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""


def _plain_names(tree: ast.Module) -> dict[str, Any]:
    """Return the names that are given a plain value at the top of the file."""
    found: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            with contextlib.suppress(TypeError, ValueError):
                found[node.targets[0].id] = _plain(node.value)
    return found


def _value(path: Path, keyword: ast.keyword, names: dict[str, Any]) -> Any:
    what = keyword.arg or ast.unparse(keyword.value)
    try:
        if keyword.arg is None:  # an argument without a name, or **names
            raise ValueError
        if isinstance(keyword.value, ast.Name) and keyword.value.id in names:
            return names[keyword.value.id]
        return _plain(keyword.value)
    except (TypeError, ValueError):
        raise UserError(
            f"{path}:{keyword.value.lineno}: LoraConfig's {what} is no plain value; write it out, "
            "or say `merge: {with: xtuner}`"
        ) from None


def _plain(node: ast.expr) -> Any:
    """Return what is written; a set, which JSON knows not, as a list.

    Raises:
        TypeError, ValueError: it must be run to be known.
    """
    value = ast.literal_eval(node)
    return sorted(value) if isinstance(value, set) else value
