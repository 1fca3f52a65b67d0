"""The scripts that made the tiny model and its data still do what they did."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

TINY = Path("recipes/tiny-agent")


@pytest.mark.slow
def test_the_first_steps_of_the_base_are_the_ones_that_were_noted(xtuner: str) -> None:
    code = "import json, pretrain; print(json.dumps(pretrain.first_steps(3)))"
    done = subprocess.run([xtuner, "-c", code], cwd=TINY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    noted = json.loads((TINY / "first_steps.json").read_text())

    losses = json.loads(done.stdout.splitlines()[-1])

    # Another processor rounds differently.
    assert losses == pytest.approx(noted[:3], abs=1e-3)


@pytest.mark.slow
def test_the_data_is_what_the_script_writes_and_the_prompts_are_held_out(tmp_path: Path) -> None:
    for name in ("corpus.py", "chats.py", "phrases.py", "words.py"):
        (tmp_path / name).write_text((TINY / name).read_text())

    done = subprocess.run(
        [sys.executable, "corpus.py"], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr
    for made in ("data/single.jsonl", "data/multi.jsonl", "prompts.jsonl"):
        assert (tmp_path / made).read_bytes() == (TINY / made).read_bytes(), made


def test_the_readme_names_the_weights_by_their_digest() -> None:
    digest = hashlib.sha256((TINY / "base" / "model.safetensors").read_bytes()).hexdigest()

    assert digest in (TINY / "README.md").read_text(encoding="utf-8")
