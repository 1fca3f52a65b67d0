from __future__ import annotations

import subprocess
import sys

import pytest

from tasks.core import paths

PRODUCT = """
import os
{}
import numpy as np
np.ones((512, 512), np.float32) @ np.ones((512, 512), np.float32)
print(len(os.listdir("/proc/self/task")))
"""


def threads(first: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", PRODUCT.format(first)],
        cwd=paths.ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


@pytest.mark.parametrize("module", ["merging", "export", "rounding"])
def test_products_leave_the_threads_to_us(module: str) -> None:
    """A second pool of threads in each of ours takes three times as long as it helps."""
    assert threads(f"from tasks.core.model import {module}") == 1
