"""What our launcher prepares before xtuner starts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

CHECK = Path(__file__).with_name("nvcc_check.py")
LAUNCHER = Path(__file__).parents[3] / "tasks" / "core" / "xtuner"
# Without all that needs the toolchain.
START = """
import launch
launch.prepare = lambda: None
launch.TOOLS = {"merge": "probe"}
launch.main()
"""


def test_deepspeed_is_there_with_devices_of_cuda_and_without_its_compiler(
    deepspeed: str, tmp_path: Path
) -> None:
    # CUDA's own images for running have the folder, and no nvcc in it.
    done = subprocess.run([deepspeed, str(CHECK), str(tmp_path)], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == ["cuda", True]


def test_no_garbage_is_looked_for_among_what_was_imported_before_the_tool(tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text("import gc; print(gc.get_freeze_count())")
    done = subprocess.run(
        [sys.executable, "-c", START, "merge"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{LAUNCHER}:{tmp_path}"},
    )

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1000
