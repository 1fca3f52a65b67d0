"""`doit new MODEL`: a recipe with all that can be found out; what is left to decide is marked."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from doit.cmd_base import Command

from .. import console, recipe
from ..commands import terminal
from ..commands.anyorder import JSON, AnyOrder
from ..engine import pipeline
from ..errors import LoadError, UserError
from . import drafting
from .drafting import Draft

DECIDE = "DECIDE"


class New(AnyOrder, Command):  # type: ignore[misc]  # doit is untyped
    """`doit new MODEL`: find out, write, say what is next."""

    doc_purpose = "write a recipe for a model, with all that can be found out"
    doc_usage = "MODEL [--base REPO|FOLDER] [--data REPO|FOLDER]"
    doc_description = (
        "owner/name is a repository on the Hub, or on the mirror that HF_ENDPOINT names; "
        "modelscope:owner/name one on ModelScope; the address of its page will do for both.  "
        "Another URL is that of an archive, as .zip or .tar, or cloned by Git; a folder is taken "
        "where it is.  Of the Hub, only config files and the first rows are read, never "
        "weights.  What is not given is asked for on a terminal.  A recipe that is there is never "
        "overwritten."
    )
    cmd_options = (
        {
            "name": "base",
            "short": "b",
            "long": "base",
            "type": str,
            "default": "",
            "help": "the base weights: a repository or a folder",
        },
        {
            "name": "data",
            "long": "data",
            "type": str,
            "default": "",
            "help": "the dataset to train on; without one nothing is trained",
        },
        {
            "name": "offline",
            "long": "offline",
            "type": bool,
            "default": False,
            "help": "ask no server; write what the name alone tells",
        },
        JSON,
    )

    def parse_execute(self, words: list[str]) -> Any:
        """Run on the words as typed: doit drops an address with `=`, as if it set a variable."""
        return super().parse_execute(sys.argv[sys.argv.index(self.name) + 1 :])

    def execute(self, opt_values: dict[str, Any], pos_args: list[str]) -> int:
        """Write the recipe; doit calls this."""
        base, data = opt_values["base"], opt_values["data"]
        try:
            path = place(pos_args)
            if not base:
                base = ask("Base weights, a repository or a folder: ")
                data = data or ask("Dataset to train on, or nothing: ")
            if not base:
                raise UserError(
                    "`doit new`: no base weights; give --base, a repository or a folder"
                )
            draft = drafting.draft(path, base, data, offline=opt_values["offline"])
            write(path, draft.text)
        except (EOFError, KeyboardInterrupt):
            raise LoadError(["`doit new`: stopped, nothing was written; run it again"]) from None
        except UserError as error:
            raise LoadError([str(error)]) from None
        if opt_values["json"]:
            terminal.write_json({"recipe": str(path), **drafting.told(draft)})
        else:
            terminal.write(summary(path, draft))
        return 0


def place(words: Sequence[str]) -> Path:
    """Return the file that a new model's recipe will be.

    Raises:
        UserError: no good name, or there is a recipe of that name.
        LoadError: there is no folder of recipes.
    """
    if len(words) != 1:
        raise UserError("`doit new`: which model? Give it one name, such as my-model")
    (name,) = words
    if fault := recipe.name_fault(name, reserved()):
        raise UserError(fault)
    folder = recipe.folder()
    for path in (folder / f"{name}.yaml", folder / f"{name}.yml"):
        if path.exists():
            raise UserError(f"{path}: is there already; take another name, or edit it")
    return folder / f"{name}.yaml"


def reserved() -> frozenset[str]:
    """Return the names that no model may have; loaded here, as the stages import much."""
    from tasks import STAGES

    return pipeline.reserved(STAGES)


def ask(question: str) -> str:
    """Return the answer of the person at the terminal; nothing where there is none."""
    return input(question).strip() if sys.stdin.isatty() and sys.stdout.isatty() else ""


def write(path: Path, text: str) -> None:
    """Write a recipe that can be read back, whole or not at all, over nothing.

    Raises:
        UserError: it cannot be written there, or a recipe came into being meanwhile.
    """
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as folder:
            aside = Path(folder, path.name)
            aside.write_text(text, encoding="utf-8")
            recipe.read(aside)
            os.link(aside, path)
    except LoadError as error:
        raise UserError(str(error).replace(str(aside), str(path))) from None
    except FileExistsError:
        raise UserError(f"{path}: is there already; take another name, or edit it") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; make the folder writable for you") from None


def summary(path: Path, draft: Draft) -> Iterator[str]:
    """Yield what was found out, what is left to decide, and what is next."""
    yield terminal.paint(f"{path} written", "bold")
    rows = [(name, _shown(name, value)) for name, value in drafting.told(draft).items()]
    yield from terminal.table(rows, indent=2)
    for number, line in enumerate(draft.text.splitlines(), 1):
        if f"# {DECIDE}: " in line:
            yield f"{path}:{number}: to decide: {line.partition(f'{DECIDE}: ')[2]}"
    yield f"next: doit plan {path.stem}"


def _shown(name: str, value: Any) -> str:
    if name in ("weights", "data.size"):
        return console.size(value)
    return drafting.count(value) if name == "parameters" else str(value)
