"""Several processes and DeepSpeed on this machine, for real: killed, resumed, through the merge."""

from __future__ import annotations

import signal

import numpy
import pytest

from tests.training import RECIPE, Bench, few, recipe, trainers, wait

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


@pytest.mark.slow
@pytest.mark.usefixtures("deepspeed")
def test_devices_that_share_sequences_learn_what_one_learns(bench: Bench) -> None:
    text = few(RECIPE, bench.folder / "few", 32).replace("max_iters: 24", "max_epochs: 1")
    alone = text.replace("batch_size: 1", "batch_size: 2").replace("counts: 2", "counts: 4")
    bench.write("alone", alone.replace("threads: 1", "threads: 1, deepspeed: zero2"))
    shared = alone.replace("counts: 4", "counts: 2\n  sequence_parallel_size: 2")
    bench.write(
        "shared", shared.replace("threads: 1", "threads: 1, processes: 2, deepspeed: zero2")
    )

    for model in ("alone", "shared"):
        done = bench.doit(f"adapter:{model}")
        assert done.returncode == 0, done.stderr

    one, two = (bench.adapter(model) for model in ("alone", "shared"))
    for name in one:
        numpy.testing.assert_allclose(one[name], two[name], atol=1e-4, err_msg=name)
    numpy.testing.assert_allclose(bench.losses("alone"), bench.losses("shared"), rtol=1e-4)
