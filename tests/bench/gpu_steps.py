"""What each part of the fast way brings, in one process and with the same rows.

    gpu_steps.py [--tiny] [--compile]

Runs inside the xtuner toolchain, on one GPU of 141 GB; --tiny tries it without one.  Prints a JSON
line for each step: tokens a second, memory, the first losses.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[2] / "tasks" / "core" / "xtuner"
sys.path.insert(0, str(HERE))
import launch  # type: ignore[import-not-found]  # noqa: E402

# As launch.py leaves it: the folder must not shadow the package xtuner.
sys.path.remove(str(HERE))
sys.path.append(str(HERE))
launch.prepare()

import fast_attention  # type: ignore[import-not-found]  # noqa: E402
import fast_data  # type: ignore[import-not-found]  # noqa: E402
import fast_lora  # type: ignore[import-not-found]  # noqa: E402
import fast_model  # type: ignore[import-not-found]  # noqa: E402
import torch  # noqa: E402
from peft import LoraConfig  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402
from xtuner.model.utils import LoadWoInit  # noqa: E402

TINY = "--tiny" in sys.argv
DEVICE = "cpu" if TINY else "cuda"
SHAPE: dict[str, Any] = {
    "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "max_position_embeddings": 8192,
}  # fmt: skip
if TINY:
    SHAPE |= {"vocab_size": 500, "hidden_size": 64, "intermediate_size": 160}
    SHAPE |= {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}


class Made(fast_model.FastFinetune):  # type: ignore[misc]
    """The fast model, given a model that is made already."""

    def build_llm_from_cfg(self, llm_cfg: Any, *rest: Any) -> Any:
        if not TINY:
            torch.cuda.memory._set_allocator_settings("expandable_segments:True")
        return llm_cfg


class AllLogits(Made):
    """The same with the loss as transformers computes it."""

    def compute_loss(self, data: dict[str, Any], data_samples: Any = None) -> dict[str, Any]:
        causal = self.llm.get_base_model()
        fast_attention.lay(fast_attention.Lengths(data["ends"], data["spans"]))
        found = causal.model(
            input_ids=data["input_ids"], position_ids=data["position_ids"], use_cache=False
        )
        logits = causal.lm_head(found.last_hidden_state[0]).float()
        targets = torch.full((len(logits),), -100, device=logits.device)
        targets[data["learned"]] = data["targets"]
        return {"loss": torch.nn.functional.cross_entropy(logits, targets)}


def model(
    way: Any = Made, *, fuse: bool = True, lora: bool = True, p: float = 0.1, **rest: Any
) -> Any:
    """Return a model in training, with or without our parts."""
    kept = fast_model.fuse, fast_lora.quicken
    try:
        if not fuse:
            fast_model.fuse = lambda llm: None
        if not lora:
            fast_lora.quicken = lambda llm: 0
        adapter = LoraConfig(r=64, lora_alpha=16, lora_dropout=p, task_type="CAUSAL_LM")
        return way(_base(), lora=adapter, **rest).to(DEVICE).train()
    finally:
        fast_model.fuse, fast_lora.quicken = kept


def _base() -> Any:
    config = LlamaConfig(**SHAPE)
    config._attn_implementation = "sdpa"
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(DEVICE), LoadWoInit():
        made = LlamaForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    for weight in made.parameters():
        weight.data.normal_(0, 0.02) if weight.dim() > 1 else weight.data.fill_(1)
    made.model.rotary_emb = type(made.model.rotary_emb)(config, device=DEVICE)
    return made


def batch(tokens: int, seed: int) -> dict[str, Any]:
    """Return one row of conversations of about 890 tokens."""
    draw = torch.Generator().manual_seed(seed)
    rows, total = [], 0
    while total < tokens:
        length = int(torch.randn((), generator=draw) * 330 + 890)
        length = min(max(64, length), 1664, tokens - total)
        ids = torch.randint(0, 500, (length,), generator=draw).tolist()
        rows.append({"input_ids": ids, "labels": [-100] * (length // 2) + ids[length // 2 :]})
        total += length
    data = fast_data.collate(rows)["data"]
    return {k: v.to(DEVICE) if torch.is_tensor(v) else v for k, v in data.items()}


def measure(name: str, make: Callable[[], Any], tokens: int, amp: bool = False) -> None:
    """Train some iterations and print what they took."""
    tokens = tokens // 16 if TINY else tokens
    torch.manual_seed(0)
    made = make()
    batches = [batch(tokens, seed) for seed in range(3)]
    weights = [p for p in made.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-5, fused=True)
    if not TINY:
        torch.cuda.reset_peak_memory_stats()
    losses, times = [], []
    for number in range(7):
        started = time.time()
        with torch.autocast(DEVICE, torch.bfloat16, enabled=amp):
            loss = made(batches[number % 3], mode="loss")["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(round(loss.item(), 4))
        if not TINY:
            torch.cuda.synchronize()
        times.append(time.time() - started)
    speed = round(tokens / statistics.median(times[3:]))
    memory = 0 if TINY else round(torch.cuda.max_memory_allocated() / 1e9, 1)
    print(
        json.dumps({"step": name, "tokens_per_second": speed, "gb": memory, "losses": losses[:3]})
    )
    del made, loss, optimizer, weights
    gc.collect()
    if not TINY:
        torch.cuda.empty_cache()


def without_kernels() -> Any:
    """Return the model with LoRA's masks drawn by torch."""
    fast_lora.triton = None
    return model()


def compiled() -> Any:
    """Return PEFT's layers, compiled."""
    made = model(fuse=False, lora=False)
    for layer in made.llm.get_base_model().model.layers:
        layer.forward = torch.compile(layer.forward)
    return made


def main() -> None:
    """Run all steps."""
    measure("packed", lambda: model(AllLogits, fuse=False, lora=False), 8192, amp=True)
    measure("+ fused loss", lambda: model(fuse=False, lora=False), 8192, amp=True)
    measure("+ Liger", lambda: model(lora=False), 8192, amp=True)
    kernels = fast_lora.triton
    measure("+ LoRA without copies", without_kernels, 8192)
    fast_lora.triton = kernels
    for tokens in (8192, 16384, 24576):
        measure("+ LoRA kernels", model, tokens)
    measure("half computed twice", lambda: model(checkpoint_layers=16), 16384)
    measure("all computed twice", lambda: model(checkpoint_layers=32), 32768)
    measure("no dropout", lambda: model(p=0.0), 16384)
    measure("one conversation", model, 890)
    if "--compile" in sys.argv:
        measure("PEFT's layers, compiled", compiled, 16384, amp=True)


if __name__ == "__main__":
    main()
