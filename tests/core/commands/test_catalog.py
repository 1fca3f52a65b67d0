"""`doit catalog`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tasks.core import catalog
from tasks.core.commands.catalog import is_like
from tasks.core.paths import ROOT


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "doit", "catalog", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_all_rows_are_printed_without_a_pattern() -> None:
    done = run()
    assert done.returncode == 0, done.stderr
    head, *lines = done.stdout.splitlines()
    assert head.split()[:3] == ["ARCHITECTURE", "MODALITY", "LORA"]
    assert len(lines) == len(catalog.rows())


@pytest.mark.parametrize(
    ("pattern", "architecture"),
    [
        ("chatglm3-6b", "ChatGLMModel"),
        ("AQUILA", "AquilaForCausalLM"),
        ("qwen2vl*", "Qwen2VLForConditionalGeneration"),
        ("Command-R", "CohereForCausalLM"),
    ],
)
def test_a_pattern_is_looked_for_in_all_names(pattern: str, architecture: str) -> None:
    found = [row.architecture for row in catalog.rows() if is_like(row, pattern)]
    assert architecture in found
    assert len(found) < 5


def test_nothing_found_is_said_and_is_status_1() -> None:
    done = run("no-such-thing")
    assert done.returncode == 1
    assert "no architecture like no-such-thing" in done.stdout


def test_other_programs_get_json() -> None:
    (row,) = json.loads(run("--json", "AquilaForCausalLM").stdout)
    assert row["vllm"]["last"] == "0.24.0"
