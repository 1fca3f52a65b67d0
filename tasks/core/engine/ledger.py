"""What ran when, where and at what cost: build/ledger.jsonl, one line a stage run."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from typing import Any

from .. import paths


def lines() -> list[dict[str, Any]]:
    """Return every line of the ledger that can be read; a broken one is passed over."""
    try:
        raw = (paths.build() / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    found = []
    for line in raw:
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                found.append(value)
    return found


def note(model: str, stage: str, **values: Any) -> None:
    """Append one line; a single write, so that two builds never mix theirs."""
    line = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": socket.gethostname(),
        "model": model,
        "stage": stage,
        **values,
    }
    path = paths.build() / "ledger.jsonl"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, (json.dumps(line, ensure_ascii=False) + "\n").encode())
    finally:
        os.close(descriptor)
