"""doit's memory, left empty: manifests alone say what is fresh.

doit keeps what it knows in one file, written when it exits, so that a killed build forgets all it
did (pydoit/doit#463).  A stage's `uptodate` reads its manifest instead, and these two classes make
doit ask nothing else.
"""

from __future__ import annotations

from typing import Any

from doit.dependency import FileChangedChecker


class Checker(FileChangedChecker):  # type: ignore[misc]  # doit is untyped
    """A `file_dep` never makes a task stale by itself; it must exist."""

    def check_modified(self, file_path: str, file_stat: Any, state: Any) -> bool:
        """Return that a file is as it was."""
        return False

    def get_state(self, dep: str, current_state: Any) -> None:
        """Return that there is nothing to note."""
        return None


class Backend:
    """A database for doit that holds nothing."""

    desc = "none: manifests say what is fresh"

    def __init__(self, name: str, codec: Any, module_name: str | None = None) -> None:
        self.name = name

    def get(self, task_id: str, dependency: str) -> bool | None:
        """Return that a file's state is known, and nothing of doit's own notes."""
        return None if dependency.endswith(":") else True

    def in_(self, task_id: str) -> bool:
        """Return that nothing is known of a task."""
        return False

    def _forget(self, *_: object) -> None:
        """Note nothing."""

    set = remove = remove_all = dump = _forget
