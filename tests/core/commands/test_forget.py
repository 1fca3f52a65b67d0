from __future__ import annotations

import pytest

from tests.conftest import doit


@pytest.mark.parametrize("command", ["forget", "ignore", "reset-dep", "dumpdb"])
def test_a_command_that_would_change_nothing_says_what_does(command: str) -> None:
    done = doit(command, "base:tiny-agent", build=None)
    assert done.returncode == 3
    assert "doit -a base:tiny-agent" in done.stderr
    assert "Traceback" not in done.stderr
