"""Count what a dataset holds: rows, turns, roles, and how long the rows are in tokens.

Part of the program convert.py, which runs inside the xtuner toolchain.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import Any


def count(rows: int, roles: Counter[str], lengths: Sequence[int], longest: int) -> dict[str, Any]:
    """Return how much there is; plain texts have no turns."""
    found: dict[str, Any] = {"rows": rows}
    if roles:
        found |= {"turns": roles["assistant"], "roles": dict(sorted(roles.items()))}
    if lengths:
        lengths = sorted(lengths)
        found["tokens"] = {
            "rows_counted": len(lengths),
            "mean": round(sum(lengths) / len(lengths)),
            "median": lengths[len(lengths) // 2],
            "most": lengths[-1],
            "max_length": longest,
            "over_max_length": sum(length > longest for length in lengths),
            "histogram": histogram(lengths),
        }
    return found


def histogram(lengths: Sequence[int]) -> dict[str, int]:
    """Return how many lengths are up to each power of two, and above the one before it."""
    found: Counter[int] = Counter(1 << max(0, length - 1).bit_length() for length in lengths)
    return {str(limit): found[limit] for limit in sorted(found)}


def roles(table: Any) -> Counter[str]:
    """Return how many messages there are of each role; none in plain texts."""
    if "messages" not in table.column_names:
        return Counter()
    total: Counter[str] = Counter()
    for chunk in table["messages"].chunks:
        for found in chunk.flatten().field("role").value_counts().to_pylist():
            total[found["values"]] += found["counts"]
    return total


def lengths(table: Any, tokenizer: str, stride: int) -> list[int]:
    """Return the tokens of every stride-th row's texts."""
    import numpy

    rows = table.take(numpy.arange(0, table.num_rows, stride)).to_pylist()
    found = [
        "\n".join(each["content"] for each in row["messages"]) if "messages" in row else row["text"]
        for row in rows
    ]
    return [
        len(each.ids) for each in encoder(tokenizer).encode_batch(found, add_special_tokens=False)
    ]


@cache
def encoder(path: str) -> Any:
    """Return the tokenizer in a file; it cuts nothing off."""
    from tokenizers import Tokenizer

    # Our processes are as many as there are processors already.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    found = Tokenizer.from_file(path)
    found.no_truncation()
    return found
