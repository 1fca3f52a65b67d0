"""Train with ZeRO-3 in two processes, layers gathered by DeepSpeed and copied by us; print both.

Runs inside the xtuner toolchain under torchrun, without devices; test_shards.py judges.  What all
are to see lies in files here, as processors have no memory that they show one another.

    shards_check.py BASE FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
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
import torch  # noqa: E402
from peft import LoraConfig  # noqa: E402
from torch import distributed  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402
from transformers.integrations.deepspeed import HfDeepSpeedConfig  # noqa: E402

SETTINGS: dict[str, Any] = {
    "train_micro_batch_size_per_gpu": 1, "gradient_accumulation_steps": 2, "gradient_clipping": 1.0,
    "zero_allow_untested_optimizer": True, "zero_force_ds_cpu_optimizer": False,
    "zero_optimization": {"stage": 3, "overlap_comm": True},
}  # fmt: skip
STEPS = 8


class Fast(fast_model.FastFinetune):  # type: ignore[misc]
    """The fast model, given a model that is made already."""

    def build_llm_from_cfg(self, llm_cfg: Any, *rest: Any) -> Any:
        return llm_cfg


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


def train(base: str, layers: int) -> dict[str, Any]:
    """Train some steps and return the losses, and what was learned.

    Args:
        layers: how many are computed twice.
    """
    torch.manual_seed(0)
    llm = AutoModelForCausalLM.from_pretrained(base, torch_dtype=torch.float32)
    adapter = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, task_type="CAUSAL_LM")
    made = Fast(llm, lora=adapter, checkpoint_layers=layers).train()
    trained = [p for p in made.parameters() if p.requires_grad]
    engine, *_ = deepspeed.initialize(
        model=made, optimizer=torch.optim.AdamW(trained, lr=1e-2), config=SETTINGS
    )
    losses, held = [], []
    for data in batches():
        loss = engine(data, mode="loss")["loss"]
        engine.backward(loss)
        engine.step()
        losses.append(loss.item())
        held.append(sum(p.numel() for p in llm.parameters() if len(p.ds_shape) == 2))
    with deepspeed.zero.GatheredParameters(trained):
        learned = [float(p.abs().sum()) for p in trained]
    return {"losses": losses, "learned": learned, "held": held}


def main() -> None:
    """Train both ways."""
    base, folder = sys.argv[1], Path(sys.argv[2])
    distributed.init_process_group("gloo")
    settings = HfDeepSpeedConfig(SETTINGS)
    found = {"gathered": train(base, 0)}
    share = fast_zero.share
    fast_zero.share = lambda modules, kept: share(modules, kept, exchange(folder))
    found["copied"] = train(base, 0)
    del settings
    if distributed.get_rank() == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
