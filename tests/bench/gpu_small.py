"""Run a program as if the GPU had less memory: what does not fit ends it, as it would there.

    gpu_small.py GIGABYTES PROGRAM ARGUMENTS...

Part of tests/bench/gpu.py; it runs inside the xtuner toolchain.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import torch

# What CUDA itself takes, which no allocation of torch's shows.
CONTEXT = 0.6

if __name__ == "__main__":
    size, program = float(sys.argv[1]), sys.argv[2]
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((size - CONTEXT) * 1e9 / total, 0)
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(program).parent)
    runpy.run_path(program, run_name="__main__")
