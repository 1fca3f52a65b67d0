"""Turn Agent-FLAN's jsonl files into a dataset for `datasets.load_from_disk`.

    convert.py FROM TO

It runs inside the xtuner toolchain.  Every fault is found before anything is written; faults end it
with status 65 and one line each on stdout: path, line, what is wrong.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DATA_FAULT = 65
ROLES = ("system", "user", "assistant")
MOST_FAULTS = 20


class Fault(ValueError):
    """What is wrong with a line."""


def main() -> None:
    """Convert a folder; print the counts as the last line."""
    origin, place = map(Path, sys.argv[1:])
    rows, faults = [], []
    for name, number, line in lines(origin):
        try:
            rows.append(row(line))
        except Fault as fault:
            faults.append(f"{name}:{number}: {fault}")
        if len(faults) == MOST_FAULTS:
            break
    if not rows and not faults:
        faults = [f"{origin}: no rows; the folder needs .jsonl files with one conversation a line"]
    if faults:
        print("\n".join(faults))
        raise SystemExit(DATA_FAULT)
    save(rows, place)
    print(json.dumps(count(rows)))


def lines(origin: Path) -> Iterator[tuple[Path, int, bytes]]:
    """Yield every line of every .jsonl file, in the order of the files' names."""
    for path in sorted(origin.glob("*.jsonl")):
        # The folder may hold links; people know the file that they lead to.
        known_as = Path(os.path.relpath(path.resolve()))
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield known_as, number, line


def row(line: bytes) -> dict[str, Any]:
    """Return a line as a row: `conversation` becomes `messages`, `id` goes, the rest stays."""
    try:
        content = json.loads(line.decode("utf-8"), object_pairs_hook=no_twice)
    except UnicodeDecodeError as error:
        raise Fault(
            f"not UTF-8 at byte {error.start} of the line; save the file as UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        raise Fault(f"not JSON at column {error.colno}: {error.msg}") from None
    if not isinstance(content, dict):
        raise Fault('not an object; a row is {"conversation": [...]}')
    if "conversation" not in content:
        raise Fault(f"no 'conversation'; found {', '.join(map(repr, content)) or 'nothing'}")
    messages = content.pop("conversation")
    content.pop("id", None)
    if not isinstance(messages, list) or not messages:
        raise Fault("'conversation' should be a list of messages")
    for position, message in enumerate(messages):
        judge(position, message)
    return {"messages": messages, **content}


def no_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's pairs as a dict; a key given twice would lose one value unseen."""
    twice = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]
    if twice:
        raise Fault(f"key '{twice[0]}' is given twice in one object")
    return dict(pairs)


def judge(position: int, message: Any) -> None:
    """Refuse a message that xtuner's openai_map_fn would stumble over, or misread."""
    where = f"conversation[{position}]"
    if not isinstance(message, dict):
        raise Fault(f"{where}: should be an object with 'role' and 'content'")
    if message.get("role") not in ROLES:
        raise Fault(f"{where}: role {message.get('role')!r} is unknown; one of {', '.join(ROLES)}")
    if not isinstance(message.get("content"), str):
        raise Fault(f"{where}: 'content' should be text")
    if str(message.get("loss", True)).lower() not in ("true", "false"):
        raise Fault(f"{where}: 'loss' should be true or false")


def save(rows: list[dict[str, Any]], place: Path) -> None:
    """Write the dataset; its fingerprint comes from its content: equal rows are equal bytes."""
    import hashlib

    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    content = json.dumps(rows, sort_keys=True, ensure_ascii=False).encode()
    table = Dataset.from_list(rows).data
    fingerprint = hashlib.sha256(content).hexdigest()[:16]
    Dataset(table, fingerprint=fingerprint).save_to_disk(str(place))


def count(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Return how much there is."""
    turns = sum(m["role"] == "assistant" for row in rows for m in row["messages"])
    return {"rows": len(rows), "turns": turns}


if __name__ == "__main__":
    main()
