"""Make a checkpoint of a LoRA (r=16 on all of Llama-3-8B's linear layers, float32: 168 MB).

    python lora_checkpoint.py FOLDER

Writes FOLDER/iter_1.pth and FOLDER/config.py.  Runs in the xtuner toolchain.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

LINEAR = {
    "self_attn.q_proj": (4096, 4096), "self_attn.k_proj": (1024, 4096),
    "self_attn.v_proj": (1024, 4096), "self_attn.o_proj": (4096, 4096),
    "mlp.gate_proj": (14336, 4096), "mlp.up_proj": (14336, 4096), "mlp.down_proj": (4096, 14336),
}  # fmt: skip

folder = Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
torch.manual_seed(0)
state = {}
for layer in range(32):
    for name, (outputs, inputs) in LINEAR.items():
        module = f"llm.base_model.model.model.layers.{layer}.{name}"
        state[f"{module}.lora_A.default.weight"] = torch.randn(16, inputs) * 0.02
        state[f"{module}.lora_B.default.weight"] = torch.randn(outputs, 16) * 0.02
torch.save({"state_dict": state, "meta": {}}, folder / "iter_1.pth")
(folder / "config.py").write_text(
    "lora = dict(type=LoraConfig, r=16, lora_alpha=32, lora_dropout=0.1, bias='none')\n"
)
