"""Recipes as they were read before, so that only what was edited is parsed and checked anew.

A hundred of them take longer than all else that `doit list` does.  They are found by their whole
text, and only if the very same code has read them: there is nothing else that they are made from,
so they cannot be stale.  Pickle is what is fast at it; ours builds sections and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path, PosixPath
from typing import Any

import pydantic

from . import paths
from .engine import whole

# Beside the program's libraries: who may write there may change those as well.
PLACE = paths.ROOT / ".venv/recipes.pickle"
PLAIN = {("datetime", name) for name in ("date", "datetime", "time", "timedelta", "timezone")}
OURS = frozenset({"tasks.core.recipe", "tasks.core.sections"})
# All that makes a recipe from a text.
CODE = tuple(Path(__file__).with_name(name) for name in ("recipe.py", "sections.py", "yamlfile.py"))
LIBRARIES = Path(pydantic.__file__).parents[1]

# A recipe's path and text, and the words that no model may be called.
Given = tuple[Path, str, frozenset[str]]
Recipes = Mapping[Given, Any]


class Unpickler(pickle.Unpickler):
    """Builds recipes out of their sections, paths and dates; nothing else is looked up."""

    def find_class(self, module: str, name: str) -> type:
        """Return a class that recipes consist of.

        Raises:
            pickle.UnpicklingError: it is another thing.
        """
        if name == "PosixPath" and module.partition(".")[0] == "pathlib":
            return PosixPath
        if (module, name) in PLAIN:
            return super().find_class(module, name)  # type: ignore[no-any-return]
        if module in OURS:
            from .sections import Section

            found = super().find_class(module, name)
            if isinstance(found, type) and issubclass(found, Section):
                return found
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a recipe")


def recall() -> Recipes:
    """Return the recipes that were kept last; none if other code has read them."""
    with contextlib.suppress(OSError, pickle.UnpicklingError):
        stamp, _, content = PLACE.read_bytes().partition(b"\n")
        if stamp == _stamp(content, code()):
            found: Recipes = Unpickler(io.BytesIO(content)).load()
            return found
    return {}


def keep(recipes: Recipes) -> None:
    """Keep recipes for the next time, instead of those before."""
    content = pickle.dumps(recipes)
    with contextlib.suppress(OSError):
        # What was pulled or installed since this process began has not read them.
        if PLACE.parent.is_dir() and code() == OWN:
            whole.write(PLACE, _stamp(content, OWN) + b"\n" + content)


def code() -> bytes:
    """Return the digest of the code that reads recipes, as it lies on the disk."""
    # What is installed there, in whatever version, changes the folder.
    versions = f"{sys.version} {LIBRARIES} {LIBRARIES.stat().st_mtime_ns}"
    digest = hashlib.sha256(versions.encode())
    for path in CODE:
        digest.update(path.read_bytes())
    return digest.digest()


def _stamp(content: bytes, reader: bytes) -> bytes:
    """Return the digest of kept recipes and of the code that read them."""
    return hashlib.sha256(reader + content).hexdigest().encode()


# Of the code that is being imported.
OWN = code()
