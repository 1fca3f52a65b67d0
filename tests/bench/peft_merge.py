"""Merge by PEFT, as its users do: the model in its own type, merge_and_unload, save_pretrained.

    python peft_merge.py BASE ADAPTER FOLDER

Runs in the xtuner toolchain.
"""

from __future__ import annotations

import sys

from peft import PeftModel
from transformers import AutoModelForCausalLM

base, adapter, folder = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(base, torch_dtype="auto", low_cpu_mem_usage=True)
PeftModel.from_pretrained(model, adapter).merge_and_unload().save_pretrained(
    folder, safe_serialization=True, max_shard_size="5GB"
)
