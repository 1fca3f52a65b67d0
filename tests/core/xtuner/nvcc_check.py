"""Start our launcher on what looks like a machine with CUDA's devices and not its compiler.

Runs inside the xtuner toolchain; test_launch.py judges what is printed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils import cpp_extension

sys.path.append(str(Path(__file__).resolve().parents[3] / "tasks" / "core" / "xtuner"))
import launch  # type: ignore[import-not-found]

cuda: Any = torch.cuda
cuda.is_available = lambda: True
cuda.device_count = lambda: 1
cuda.get_device_properties = lambda device=0: SimpleNamespace(major=9, minor=0)
cuda.get_device_capability = lambda device=None: (9, 0)
cuda.is_bf16_supported = lambda: True
version: Any = torch.version
version.cuda = "13.0"
cpp_extension.CUDA_HOME = sys.argv[1]

launch.import_deepspeed_without_nvcc()

from deepspeed.accelerator import get_accelerator  # noqa: E402

print(json.dumps([get_accelerator().device_name(), torch.cuda.is_available()]))
