"""Training through a real Slurm of two nodes: followed, cancelled, picked up, a node down."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from tests.services.slurm import Slurm
from tests.training import RECIPE, Bench, wait

# Long enough to be met in the middle.
LONG = RECIPE.replace("max_iters: 24", "max_iters: 40")


@pytest.fixture
def bench(tmp_path: Path, xtuner: str, slurm_cluster: Slurm) -> Bench:
    environ = {"MODELWRIGHT_LAUNCHER": "slurm", "MODELWRIGHT_SLURM_GRES": "none"}
    made = Bench(tmp_path, xtuner, {**slurm_cluster.environ, **environ})
    made.write("m", LONG.replace("{threads: 1}", "{threads: 1, nodes: 2}"))
    return made


@pytest.mark.slow
def test_a_training_on_two_nodes_survives_all_that_can_befall_it(
    bench: Bench, slurm_cluster: Slurm
) -> None:
    said = bench.stop("train:m", bench.has("m", 8), signal.SIGINT)
    assert re.search(r"job \d+ cancelled", said), said
    assert slurm_cluster.jobs() == {}

    bench.stop("train:m", bench.has("m", 16), signal.SIGKILL)
    (number,) = slurm_cluster.jobs()
    assert slurm_cluster.jobs()[number] == "RUNNING"

    with bench.building("merge:m") as third:
        wait(lambda: "Iter(train) [20/40]" in log_of(bench))
        slurm_cluster.take_down("n2")
        wait(lambda: slurm_cluster.jobs().get(number) == "PENDING")
        slurm_cluster.bring_back("n2")
        said = third.communicate(timeout=120)[0]
    assert third.returncode == 0, said
    assert f"following job {number}" in said
    assert "[40/40]" in bench.log("m")
    bench.environ.clear()
    bench.write("here", LONG.replace("{threads: 1}", "{threads: 1, processes: 2}"))
    assert bench.doit("merge:here").returncode == 0
    assert bench.merged("m") == bench.merged("here")


def log_of(bench: Bench) -> str:
    try:
        return bench.log("m")
    except FileNotFoundError:
        return ""
