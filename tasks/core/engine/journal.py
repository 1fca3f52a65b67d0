"""What a stage has changed outside and must know to undo it, noted before it changes anything.

A run that fails or is killed publishes nothing, and what it has overwritten out there is in the
note alone.  So it lies beside the stage's folder, and goes when the stage is undone.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from .. import paths
from ..errors import UserError

Note = dict[str, Any]


class Journal:
    """The note of a stage on a model; whoever writes it holds the stage's lock."""

    def __init__(self, model: str, stage: str) -> None:
        self.path: Path = paths.note(model, stage)

    def read(self) -> Note:
        """Return the note, or nothing.

        Raises:
            UserError: it is damaged, and what it told is lost.
        """
        try:
            found: Note = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except ValueError:
            raise UserError(
                f"{self.path}: a damaged note of what was changed outside; put right by hand what "
                "the recipe's model has there, then delete the file"
            ) from None
        return found

    def write(self, note: Note) -> None:
        """Put a note in the place of the last one, in one step; an empty one is none."""
        if not note:
            self.path.unlink(missing_ok=True)
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        # What was there before us may hold somebody's keys.
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(json.dumps(note, indent=1, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
