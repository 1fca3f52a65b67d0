"""Compare the fast way with xtuner's own on small models; print what was found as JSON.

    fast_check.py KIND...        llama, mistral, qwen2

Runs inside the xtuner toolchain; test_fast.py judges.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[3] / "tasks" / "core" / "xtuner"
sys.path.insert(0, str(HERE))
import launch  # type: ignore[import-not-found]  # noqa: E402

# As launch.py leaves it: the folder must not shadow the package xtuner.
sys.path.remove(str(HERE))
sys.path.append(str(HERE))
launch.prepare()

import fast_attention  # type: ignore[import-not-found]  # noqa: E402
import fast_data  # type: ignore[import-not-found]  # noqa: E402
import fast_model  # type: ignore[import-not-found]  # noqa: E402
import torch  # noqa: E402
from mmengine.dataset import DefaultSampler  # noqa: E402
from mmengine.optim import OptimWrapper  # noqa: E402
from peft import LoraConfig  # noqa: E402
from torch.utils.data import DataLoader  # noqa: E402
from transformers import AutoConfig, AutoModelForCausalLM  # noqa: E402
from xtuner.dataset.collate_fns import default_collate_fn  # noqa: E402
from xtuner.model import SupervisedFinetune  # noqa: E402

SIZES = {
    "vocab_size": 300, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2,
}  # fmt: skip


class Slow(SupervisedFinetune):  # type: ignore[misc]
    """xtuner's model, given a model that is made already."""

    def build_llm_from_cfg(self, llm_cfg: Any, *rest: Any) -> Any:
        return llm_cfg


class Fast(fast_model.FastFinetune):  # type: ignore[misc]
    """Ours, likewise."""

    def build_llm_from_cfg(self, llm_cfg: Any, *rest: Any) -> Any:
        return llm_cfg


def model(way: Any, kind: str, dropout: float = 0.0, lora: bool = True, **options: Any) -> Any:
    """Return a model in training, the same each time."""
    torch.manual_seed(0)
    # A window that is shorter than a conversation.
    window = {"sliding_window": 16} if kind == "mistral" else {}
    config = AutoConfig.for_model(kind, **SIZES, **window)
    base = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    adapter = LoraConfig(r=8, lora_alpha=16, lora_dropout=dropout, task_type="CAUSAL_LM")
    made = way(base, lora=adapter if lora else None, **options).train()
    for name, weight in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.02)
    return made


def layer_mode(made: Any) -> bool:
    """Return whether a model's layers are in training."""
    return bool(fast_model.decoder_layers(made.llm)[1].training)


def rows() -> list[dict[str, list[int]]]:
    """Return conversations of several lengths; the first half of each is not learned from."""
    draw = torch.Generator().manual_seed(3)
    found = []
    for length in (5, 17, 9, 30, 12):
        ids = torch.randint(0, 300, (length,), generator=draw).tolist()
        found.append({"input_ids": ids, "labels": [-100] * (length // 2) + ids[length // 2 :]})
    return found


def trained(made: Any, batches: list[dict[str, Any]]) -> tuple[float, dict[str, torch.Tensor]]:
    """Return the mean loss of some batches, and all gradients."""
    fast_attention.lay(None)
    total = 0.0
    for batch in batches:
        loss = made(batch, mode="loss")["loss"] / len(batches)
        loss.backward()
        total += loss.item()
    grads = {n: p.grad for n, p in made.named_parameters() if p.grad is not None}
    return total, grads


def after_epochs(made: Any, size: int, collate: Any, joined: bool) -> dict[str, torch.Tensor]:
    """Return by how much two epochs of five rows, in steps of four, change the weights.

    Args:
        size: how many rows are a batch; a step has as many batches as it takes.
        joined: whether epochs lie end to end.
    """
    fast_attention.lay(None)
    data, weights = rows(), {n: p for n, p in made.named_parameters() if p.requires_grad}
    before = {n: p.detach().clone() for n, p in weights.items()}
    sampler = fast_data.Epochs(data, seed=1, count=2) if joined else DefaultSampler(data, seed=1)
    batches = DataLoader(data, size, sampler=sampler, collate_fn=collate)
    rounds = 1 if joined else 2
    steps = OptimWrapper(torch.optim.SGD(weights.values(), lr=1), accumulative_counts=4 // size)
    steps.initialize_count_status(made, 0, rounds * len(batches))
    for epoch in range(rounds):
        sampler.set_epoch(epoch)
        for batch in batches:
            steps.update_params(made(batch["data"], mode="loss")["loss"])
    return {n: p.detach() - before[n] for n, p in weights.items()}


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Return the largest difference of gradients, in theirs."""
    assert one.keys() == other.keys()
    return max(float((one[n] - other[n]).norm() / one[n].norm()) for n in one)


def compared(kind: str) -> dict[str, Any]:
    """Return what was found of one kind of model."""
    found: dict[str, Any] = {}
    data = rows()
    packed = fast_data.collate(data, part=1)["data"]
    single = [default_collate_fn([row])["data"] for row in data]
    for way, options in {"lora": {}, "full": {"lora": False}}.items():
        slow = trained(model(Slow, kind, use_activation_checkpointing=False, **options), single)
        for layers in (0, 2):
            fast = trained(model(Fast, kind, checkpoint_layers=layers, **options), [packed])
            found[f"{way} {layers}"] = [slow[0], fast[0], apart(slow[1], fast[1])]
    whole = default_collate_fn(data)["data"]
    slow = trained(model(Slow, kind, use_activation_checkpointing=False), [whole])
    fast = trained(model(Fast, kind), [fast_data.collate(data)["data"]])
    found["one batch"] = [slow[0], fast[0], apart(slow[1], fast[1])]
    # What is left of a batch of 8, which stands for four of two rows.
    left = [default_collate_fn(part)["data"] for part in (data[:2], data[2:3])]
    slow = trained(model(Slow, kind, use_activation_checkpointing=False), left)
    fast = trained(model(Fast, kind), [fast_data.collate(data[:3], part=2)["data"]])
    found["rows left"] = [slow[0], fast[0], apart(slow[1], fast[1])]
    slow = model(Slow, kind, use_activation_checkpointing=False)
    one_by_one = after_epochs(slow, 1, default_collate_fn, joined=False)
    for size in (2, 4):
        collate = partial(fast_data.collate, part=1)
        together = after_epochs(model(Fast, kind), size, collate, joined=True)
        found[f"epochs {size}"] = apart(one_by_one, together)
    kept = []
    for layers in (0, 3):
        made = model(Fast, kind, dropout=0.3, checkpoint_layers=layers)
        torch.manual_seed(7)
        kept.append(trained(made, [packed]))
    found["dropout again"] = [kept[0][0], kept[1][0], apart(kept[0][1], kept[1][1])]
    found["dropout does something"] = abs(kept[0][0] - found["lora 0"][1])
    made.eval()
    with torch.no_grad():
        text = made.llm.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=5, do_sample=False)
    plain = model(Slow, kind, use_activation_checkpointing=False).eval()
    with torch.no_grad():
        same = plain.llm.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=5, do_sample=False)
    found["says"] = [text.tolist(), same.tolist()]
    found["modes"] = [layer_mode(made), layer_mode(made.train()), layer_mode(made.train())]
    made.llm.eval()
    found["modes"] += [layer_mode(made), layer_mode(made.train()), layer_mode(made.eval())]
    return found


if __name__ == "__main__":
    print(json.dumps({kind: compared(kind) for kind in sys.argv[1:]}))
