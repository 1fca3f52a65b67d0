"""`doit doctor`: what is there, what works, and what to do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from doit.cmd_base import Command

from .. import doctor
from ..commands import terminal
from ..commands.anyorder import JSON, AnyOrder

COLOURS = {doctor.GOOD: "green", doctor.NONE: "faint", doctor.WRONG: "red"}


class Doctor(AnyOrder, Command):  # type: ignore[misc]  # doit is untyped
    """`doit doctor`: examine; no recipe needs to be sound for it."""

    doc_purpose = "try what this machine and its services can do, and say what to do"
    doc_usage = ""
    doc_description = (
        "`ok` was tried and works; `none` is not there or does not work, and nobody asked for it; "
        "`wrong` says what to do.  Exit status 1 when something is wrong."
    )
    cmd_options = (JSON,)

    def execute(self, opt_values: dict[str, Any], pos_args: list[str]) -> int:
        """Print what was found; doit calls this."""
        found = doctor.examine()
        if opt_values["json"]:
            terminal.write_json([asdict(one) for one in found])
        else:
            terminal.write(lines(found))
        return int(any(one.state == doctor.WRONG for one in found))


def lines(found: list[doctor.Finding]) -> list[str]:
    """Return findings as lines, and one that counts them."""
    rows = [
        (terminal.paint(one.state, COLOURS[one.state]), one.name, line)
        for one in found
        for line in one.what.splitlines()[:1]
    ]
    wrong = sum(one.state == doctor.WRONG for one in found)
    end = f"{wrong} wrong" if wrong else "nothing is wrong"
    return [*terminal.table(rows), end]
