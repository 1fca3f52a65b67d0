"""Several processes and DeepSpeed on this machine, for real: killed, resumed, through the merge."""

from __future__ import annotations

import signal

import numpy
import pytest

from tests.training import Bench, recipe, trainers, wait

PLAIN = {"ddp": "processes: 2"}
ZERO = {
    "zero2": "processes: 2, deepspeed: zero2",
    "zero2-offload": "processes: 2, deepspeed: zero2_offload",
    "zero3": "processes: 2, deepspeed: zero3",
    "zero3-offload": "processes: 2, deepspeed: zero3_offload",
}


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, xtuner: str) -> Bench:
    made = Bench(tmp_path_factory.mktemp("distributed"), xtuner)
    for model, launch in {**PLAIN, **ZERO}.items():
        made.write(model, recipe(launch))
    return made


def kill_and_resume(bench: Bench, model: str) -> None:
    """Kill a build that trains; see that nothing is left of it; build again."""
    bench.stop(f"train:{model}", bench.has(model, 8), signal.SIGKILL)
    wait(lambda: trainers(bench.build) == [], 10)
    done = bench.doit(f"merge:{model}")
    assert done.returncode == 0, done.stderr
    assert "resumed epoch: 0, iter: " in bench.log(model)


@pytest.mark.slow
def test_two_processes_go_on_where_they_were_killed(bench: Bench) -> None:
    kill_and_resume(bench, "ddp")

    assert sorted(p.name for p in (bench.build / "ddp" / "train").glob("iter_*")) == [
        "iter_16.pth",
        "iter_24.pth",
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("deepspeed")
@pytest.mark.parametrize("stage", ["zero2", "zero3"])
def test_deepspeed_killed_and_resumed_ends_where_offload_does_undisturbed(
    bench: Bench, stage: str
) -> None:
    """Offload computes the same elsewhere, but for the last bit of some numbers."""
    kill_and_resume(bench, stage)
    undisturbed = bench.doit(f"merge:{stage}-offload")

    assert undisturbed.returncode == 0, undisturbed.stderr
    own, other = (bench.adapter(model) for model in (stage, f"{stage}-offload"))
    assert own.keys() == other.keys()
    for name in own:
        numpy.testing.assert_allclose(own[name], other[name], atol=1e-3, err_msg=name)
