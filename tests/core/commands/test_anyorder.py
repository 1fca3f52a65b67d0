"""What our commands make of their words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from doit.cmd_base import Command

from tasks.core import console
from tasks.core.commands import terminal
from tasks.core.commands.anyorder import JSON, AnyOrder


class Told(AnyOrder, Command):  # type: ignore[misc]  # doit is untyped
    """A command that has something to say beside its result."""

    doc_purpose = doc_usage = doc_description = ""
    cmd_options = (JSON,)

    def execute(self, opt_values: dict[str, Any], pos_args: list[str]) -> int:
        console.say("thrown away")
        terminal.write_json(pos_args)
        return 0


def test_what_is_said_beside_json_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    Told().parse_execute(["m", "--json"])
    said = capsys.readouterr()
    assert (json.loads(said.out), said.err) == (["m"], "thrown away\n")


def test_without_json_all_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    Told().parse_execute(["--", "--json"])
    said = capsys.readouterr()
    assert (said.out, said.err) == ('thrown away\n[\n "--json"\n]\n', "")
