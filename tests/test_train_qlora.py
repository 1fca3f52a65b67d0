"""QLoRA on processors, for real: a base in 4 bits, an adapter, merged into the base as it is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from safetensors.numpy import load_file

from tasks.core import paths
from tasks.core.toolchains import toolchain
from tests.training import RECIPE, TINY, Bench

GPU = paths.CORE / "xtuner" / "gpu.txt"
PURELIB = "import sysconfig; print(sysconfig.get_path('purelib'))"


@pytest.fixture
def quantizing(xtuner: str, tmp_path: Path) -> str:
    """Return a Python with xtuner's packages and bitsandbytes, which ours has for GPUs only."""
    if toolchain.has("xtuner", "bitsandbytes"):
        return xtuner
    place = tmp_path / "python"
    subprocess.run([xtuner, "-m", "venv", "--without-pip", place], check=True)
    inner = str(place / "bin" / "python")
    own, theirs = (
        subprocess.run([python, "-c", PURELIB], capture_output=True, text=True, check=True)
        for python in (inner, xtuner)
    )
    (Path(own.stdout.strip()) / "xtuner.pth").write_text(theirs.stdout)
    pins = re.findall(r"^bitsandbytes==.*(?:\n {4}.*)*", GPU.read_text(), re.MULTILINE)
    (tmp_path / "pins.txt").write_text("\n".join(pins))
    command = [sys.executable, "-m", "pip", "--python", inner, "install", "--no-deps", "--quiet"]
    done = subprocess.run([*command, "--require-hashes", "-r", tmp_path / "pins.txt"])
    if done.returncode:
        pytest.skip("needs bitsandbytes, and pip cannot install it")
    return inner


@pytest.mark.slow
def test_a_base_in_four_bits_is_tuned_and_merged(quantizing: str, tmp_path: Path) -> None:
    bench = Bench(tmp_path, quantizing)
    bench.write("m", RECIPE.replace("train:\n", "train:\n  method: qlora\n"))

    done = bench.doit("merge:m")

    assert done.returncode == 0, done.stderr
    losses = bench.losses("m")
    assert losses[-1] < 0.8 * losses[0]
    base, merged = load_file(TINY / "base/model.safetensors"), load_file(bench.merged_at("m"))
    assert base.keys() == merged.keys()
    # The base that is merged into is the one on disk, not what 4 bits are left of it.
    name = "model.embed_tokens.weight"
    numpy.testing.assert_array_equal(base[name], merged[name])
    name = "model.layers.0.self_attn.q_proj.weight"
    change = numpy.linalg.norm(merged[name] - base[name]) / numpy.linalg.norm(base[name])
    assert 0 < change < 0.5
