"""Train with ZeRO-3 in two processes, layers gathered by DeepSpeed and copied by us; print both.

Runs inside the xtuner toolchain under torchrun, without devices; test_shards.py judges.  What all
are to see lies in files here, as processors have no memory that they show one another.

    shards_check.py BASE FOLDER
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

HERE = Path(__file__).resolve().parents[3] / "tasks" / "core" / "xtuner"
sys.path.insert(0, str(HERE))
import launch  # type: ignore[import-not-found]  # noqa: E402

# As launch.py leaves it: the folder must not shadow the package xtuner.
sys.path.remove(str(HERE))
sys.path.append(str(HERE))
launch.prepare()
launch.training.train_on_processors("zero3")

import deepspeed  # noqa: E402
import fast_data  # type: ignore[import-not-found]  # noqa: E402
import fast_model  # type: ignore[import-not-found]  # noqa: E402
import fast_zero  # type: ignore[import-not-found]  # noqa: E402
import saving  # type: ignore[import-not-found]  # noqa: E402
import torch  # noqa: E402
from peft import LoraConfig  # noqa: E402
from torch import distributed  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402
from transformers.integrations.deepspeed import HfDeepSpeedConfig  # noqa: E402

SETTINGS: dict[str, Any] = {
    "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 2, "gradient_clipping": 1.0,
    "zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False,
    "zero_optimization": {
        "stage": 3, "overlap_comm": True, "stage3_gather_16bit_weights_on_model_save": True,
    },
}  # fmt: skip
STEPS = 8
# Leaves in a folder what an engine is to go on from, and takes it into a fresh one.
Leave = Callable[[Any, Path], None]
Take = Callable[[Any, Path], None]


class Fast(fast_model.FastFinetune):  # type: ignore[misc]
    """The fast model, given a model that is made already."""

    def build_llm_from_cfg(self, llm_cfg: Any, *rest: Any) -> Any:
        return llm_cfg


class Late:
    """Gathers when it is waited for and not before, as one of gloo's threads may."""

    original = staticmethod(distributed.all_gather_into_tensor)

    def __init__(self, whole: torch.Tensor, piece: torch.Tensor, group: Any) -> None:
        self.gather: Callable[[], Any] | None = functools.partial(
            self.original, whole, piece, group
        )

    def wait(self) -> None:
        if self.gather:
            self.gather()
        self.gather = None


def gather(output_tensor: Any, input_tensor: Any, group: Any = None, async_op: bool = False) -> Any:
    """Gather late, where it need not be at once."""
    late = Late(output_tensor, input_tensor, group)
    return late if async_op else late.wait()


def exchange(folder: Path) -> Any:
    """Return how processes show each other their pieces: each in a file of its own."""
    numbers = iter(range(10**6))

    def show(piece: torch.Tensor) -> list[torch.Tensor]:
        number, count = next(numbers), distributed.get_world_size()
        seen = [
            torch.from_file(
                str(folder / f"{number}.{rank}"), shared=True, size=len(piece), dtype=piece.dtype
            )
            for rank in range(count)
        ]
        seen[distributed.get_rank()].copy_(piece)
        return seen

    return show


def batches() -> list[dict[str, Any]]:
    """Return this process's rows; the other has others, of other lengths."""
    draw = torch.Generator().manual_seed(3 + distributed.get_rank())
    found = []
    for number in range(STEPS):
        ids = torch.randint(0, 300, (20 + 7 * number,), generator=draw).tolist()
        found.append(fast_data.collate([{"input_ids": ids, "labels": ids}])["data"])
    return found


def start(base: str) -> tuple[Any, Any]:
    """Return a fresh engine, and the language model within."""
    torch.manual_seed(0)
    llm = AutoModelForCausalLM.from_pretrained(base, torch_dtype=torch.float32)
    adapter = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, task_type="CAUSAL_LM")
    made = Fast(llm, lora=adapter, checkpoint_layers=0).train()
    trained = [p for p in made.parameters() if p.requires_grad]
    engine, *_ = deepspeed.initialize(
        model=made, optimizer=torch.optim.AdamW(trained, lr=1e-2), config=SETTINGS
    )
    return engine, llm


def train(base: str, folder: Path | None = None, ways: tuple[Leave, Take] | None = None) -> Any:
    """Train some steps and return the losses, and what was learned.

    Args:
        folder: where it is saved after half of the steps; a fresh engine goes on from there.
        ways: how it is saved, and how the fresh engine takes it.
    """
    engine, llm = start(base)
    losses, held = [], []
    for number, data in enumerate(batches()):
        if folder and ways and number == STEPS // 2:
            leave, take = ways
            leave(engine, folder)
            distributed.barrier()
            draws = torch.get_rng_state()  # of dropout
            engine, llm = start(base)
            take(engine, folder)
            torch.set_rng_state(draws)
        loss = engine(data, mode="loss")["loss"]
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
        held.append(sum(p.numel() for p in llm.parameters() if len(p.ds_shape) == 2))
    trained = [p for p in llm.parameters() if p.requires_grad]
    with deepspeed.zero.GatheredParameters(trained):
        learned = [float(p.abs().sum()) for p in trained]
    return {"losses": losses, "learned": learned, "held": held}


def leave_all(engine: Any, folder: Path) -> None:
    engine.save_checkpoint(
        str(folder), tag="half", client_state={}, save_latest=False, exclude_frozen_parameters=True
    )


def take_all(engine: Any, folder: Path) -> None:
    engine.load_checkpoint(str(folder), tag="half", load_module_strict=False)


def leave_weights(engine: Any, folder: Path) -> None:
    state = engine._zero3_consolidated_16bit_state_dict(exclude_frozen_parameters=True)
    if distributed.get_rank() == 0:
        torch.save({"state_dict": state, "param_schedulers": []}, folder / "half.pth")


def take_weights(engine: Any, folder: Path) -> None:
    strategy = SimpleNamespace(
        model=SimpleNamespace(model=engine), load_scheduler_state_dict=lambda _: None
    )
    saving.resume_weights(strategy, str(folder / "half.pth"))


def main() -> None:
    """Train both ways, undisturbed and resumed."""
    base, folder = sys.argv[1], Path(sys.argv[2])
    distributed.all_gather_into_tensor = gather
    distributed.init_process_group("gloo")
    settings = HfDeepSpeedConfig(SETTINGS)
    found = {
        "gathered": train(base),
        "gathered, weights": train(base, folder, (leave_weights, take_weights)),
    }
    share = fast_zero.share
    fast_zero.share = lambda modules, kept: share(modules, kept, exchange(folder))
    found["copied"] = train(base)
    found["copied, weights"] = train(base, folder, (leave_weights, take_weights))
    found["copied, all"] = train(base, folder, (leave_all, take_all))
    del settings
    if distributed.get_rank() == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
