"""Read the LoRA settings out of a rendered config, without running it.

The config is what trained, also where a recipe has a template of its own; `LoraConfig`'s arguments
are taken from its syntax tree, with the names that the file itself gives a plain value.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from ..errors import UserError

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
        UserError: there is not just one LoraConfig, or an argument is more than a plain value.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and _makes_lora(node)]
    if len(calls) != 1:
        raise UserError(
            f"{path}: {len(calls)} LoraConfig, expected one; say `merge: {{with: xtuner}}`"
        )
    names = _plain_names(tree)
    found = {}
    for keyword in calls[0].keywords:
        if keyword.arg != "type":
            found[str(keyword.arg)] = _value(path, keyword, names)
    return {**DEFAULTS, **found}


def _makes_lora(call: ast.Call) -> bool:
    kinds = [keyword.value for keyword in call.keywords if keyword.arg == "type"]
    return any(isinstance(k, ast.Name) and k.id == "LoraConfig" for k in (*kinds, call.func))


def _plain_names(tree: ast.Module) -> dict[str, Any]:
    """Return the names that are given a plain value, once, at the top of the file."""
    found: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            try:
                found[name] = ast.literal_eval(node.value)
            except ValueError:
                found.pop(name, None)
    return found


def _value(path: Path, keyword: ast.keyword, names: dict[str, Any]) -> Any:
    if isinstance(keyword.value, ast.Name) and keyword.value.id in names:
        return names[keyword.value.id]
    try:
        return ast.literal_eval(keyword.value)
    except ValueError:
        raise UserError(
            f"{path}:{keyword.value.lineno}: LoraConfig's {keyword.arg} is no plain value; write "
            "it out, or say `merge: {with: xtuner}`"
        ) from None
