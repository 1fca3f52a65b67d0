"""Training on a disk that is full when a checkpoint is due, for real."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training import Bench, halted, recipe, wait

# Less than a checkpoint takes.
LEFT = 64 * 1024


@pytest.fixture
def bench(tmp_path: Path, xtuner: str) -> Iterator[Bench]:
    """Recipes and a build folder on a small disk of their own."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place]).returncode:
        pytest.skip("mount is refused here")
    yield Bench(place, xtuner)
    subprocess.run(["umount", place], check=True)


def resize(disk: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", disk], check=True)


@pytest.mark.slow
@pytest.mark.usefixtures("deepspeed")
@pytest.mark.parametrize("launch", ["processes: 1", "processes: 2, deepspeed: zero2"])
def test_a_disk_that_fills_while_saving_costs_no_checkpoint(bench: Bench, launch: str) -> None:
    bench.write("m", recipe(launch).replace("max_iters: 24", "max_iters: 16"))
    with bench.building("train:m") as child:
        wait(lambda: bench.has("m", 8)() or child.poll() is not None)
        with halted(bench.build):
            assert not bench.has("m", 16)()
            resize(bench.folder, shutil.disk_usage(bench.folder).used + LEFT)
        said = child.communicate(timeout=120)[0]
    assert child.returncode == 1
    assert "the disk is full; no checkpoint that was there is lost.  Free some space" in said
    (left,) = bench.build.glob("m/.train-*/iter_*.pth")
    assert left.name == "iter_8.pth"

    resize(bench.folder, 64 << 20)
    again = bench.doit("train:m")

    assert again.returncode == 0, again.stderr
    assert "resumed epoch: 0, iter: 8" in bench.log("m")
