"""Count verdicts: shares with 95 % confidence intervals, in all, by tool and by group."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .prompts import Prompt
from .toolcall import Verdict

# What is counted, by the name that it has in a verdict.
SHARES = {
    "tool_call_valid": "valid",
    "tool_called": "called",
    "tool_right": "tool",
    "arguments_json": "parsed",
}
# The normal distribution's 97.5 % point.
Z = 1.959964


def scores(prompts: Sequence[Prompt], verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Return shares over the prompts without a group; the valid ones also by tool and by group.

    A prompt that expects several tools counts for each of them.
    """
    judged = list(zip(prompts, verdicts, strict=True))
    main = [(p, v) for p, v in judged if not p.group]
    tools = sorted({tool for p, _ in main for tool in p.expected})
    by_tool = {tool: [v.valid for p, v in main if tool in p.expected] for tool in tools}
    by_group = {
        group: [v.valid for p, v in judged if p.group == group]
        for group in sorted({p.group for p in prompts if p.group})
    }
    counted = {name: [getattr(v, part) for _, v in main] for name, part in SHARES.items()}
    return {
        "prompts": len(main),
        **{name: share(right) for name, right in counted.items()},
        "intervals": {name: interval(sum(right), len(right)) for name, right in counted.items()},
        "by_tool": {tool: share(right) for tool, right in by_tool.items()},
        "tools": {tool: _counted(right) for tool, right in by_tool.items()},
        "apart": {
            group: {"prompts": len(right), "valid": share(right)}
            for group, right in by_group.items()
        },
    }


def _counted(right: Sequence[bool]) -> dict[str, Any]:
    return {
        "prompts": len(right),
        "tool_call_valid": share(right),
        "interval": interval(sum(right), len(right)),
    }


def share(right: Sequence[bool]) -> float:
    """Return the share of what is right; of nothing, none."""
    return round(sum(right) / len(right), 4) if right else 0.0


def interval(right: int, count: int) -> list[float]:
    """Return where the true share is, with 95 % confidence (Wilson's score interval).

    It stays inside 0..1, and says something of 0 of n and n of n as well.
    """
    if not count:
        return [0.0, 1.0]
    part, more = right / count, Z * Z / count
    middle = (part + more / 2) / (1 + more)
    half = Z * math.sqrt(part * (1 - part) / count + more / (4 * count)) / (1 + more)
    return [round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)]


def difference(before: Sequence[bool], after: Sequence[bool]) -> tuple[float, list[float]]:
    """Return how much more is right after than before, of the same prompts, and its interval.

    Half a prompt is added to each cell (Agresti and Min), or no difference would be certain.
    """
    count = len(before)
    if not count:
        return 0.0, [-1.0, 1.0]
    won = sum(b > a for a, b in zip(before, after, strict=True))
    lost = sum(b < a for a, b in zip(before, after, strict=True))
    middle = (won - lost) / (count + 2)
    spread = won + lost + 1 - (won - lost) ** 2 / (count + 2)
    half = Z * math.sqrt(spread) / (count + 2)
    low, high = max(-1.0, middle - half), min(1.0, middle + half)
    return round((won - lost) / count, 4), [round(low, 4), round(high, 4)]
