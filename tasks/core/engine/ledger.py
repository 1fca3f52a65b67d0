"""What ran when, where and at what cost: build/ledger.jsonl, one line a stage run."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import paths
from .digests import State, state_of

Line = Mapping[str, Any]


# A build asks often, and a ledger grows for years.
_known: dict[Path, tuple[State, Sequence[Line]]] = {}


def lines() -> Sequence[Line]:
    """Return every line of the ledger that can be read; a broken one is passed over."""
    path = paths.build() / "ledger.jsonl"
    try:
        state = state_of(path)
        if path not in _known or _known[path][0] != state:
            _known[path] = state, _parse(path.read_text(encoding="utf-8"))
        return _known[path][1]
    except (OSError, UnicodeDecodeError):
        return []


def _parse(text: str) -> list[dict[str, Any]]:
    found = []
    for line in text.splitlines():
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
