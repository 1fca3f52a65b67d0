"""What two evaluated builds answered differently: the same prompts, one by one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .. import paths
from ..engine import cas, manifest
from ..engine.manifest import Manifest
from ..evaluation import scores


def rows(one: Mapping[str, Manifest], other: Mapping[str, Manifest]) -> list[tuple[str, Any, Any]]:
    """Return rows of `doit compare`: name, value in one, value in the other.

    There are none where a build was not evaluated, or where both have the same prompts right.
    """
    first, second = (_right(build.get("evaluate")) for build in (one, other))
    both = [prompt for prompt in first if prompt in second]
    before, after = ([found[prompt] for prompt in both] for found in (first, second))
    if before == after:
        return []
    by, (low, high) = scores.difference(before, after)
    more = f"{100 * by:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f})"
    lost = sum(a > b for a, b in zip(before, after, strict=True))
    won = sum(b > a for a, b in zip(before, after, strict=True))
    return [
        (f"evaluate: valid only here, of {len(both)} same prompts", lost, won),
        ("evaluate: more valid", None, more),
    ]


def _right(receipt: Manifest | None) -> dict[str, bool]:
    """Return which prompts the finished model has right, by what they ask and expect."""
    report = _report(receipt) if receipt else None
    if not report:
        return {}
    name = "tuned" if "tuned" in report["scores"] else "base"
    return {
        manifest.digest_of([row["messages"], row["expect"], row.get("then")]): row[name]["valid"]
        for row in report["prompts"]
        if not row["group"]
    }


def _report(receipt: Manifest) -> dict[str, Any] | None:
    """Return what an evaluation reported, from the build folder or from the store."""
    digest = next((file.digest for file in receipt.files if file.path == "report.json"), "")
    there = manifest.of(receipt.model, "evaluate")
    folder = paths.output(receipt.model, "evaluate")
    is_now = there is not None and there.key == receipt.key
    try:
        path = folder / "report.json" if is_now else cas.blob(digest)
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError):
        return None
