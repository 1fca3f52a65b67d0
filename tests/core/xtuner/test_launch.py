"""What our launcher prepares before xtuner starts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

CHECK = Path(__file__).with_name("nvcc_check.py")


def test_deepspeed_is_there_with_devices_of_cuda_and_without_its_compiler(
    deepspeed: str, tmp_path: Path
) -> None:
    # CUDA's own images for running have the folder, and no nvcc in it.
    done = subprocess.run([deepspeed, str(CHECK), str(tmp_path)], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["cuda", True]
