"""Pin every package of the Xinference toolchain with its hashes.

requirements.txt is for every machine, gpu.txt comes on top where torch is a CUDA build.

Run by hand, with uv on PATH, after an edit of requirements.in:
python -m tasks.core.xinference.lock
"""

from __future__ import annotations

import re
from pathlib import Path

from ..xtuner.lock import GPU, compiled

HERE = Path(__file__).parent
# Xinference asks for timm, and that for torchvision, whose build on PyPI is for CUDA: beside a CPU
# build of torch no model would load.  Neither is needed for text.
LEFT_OUT = ("torch", "torchvision", "timm")
# It asks a driver's library about GPUs, and is content where there is none.
EVERYWHERE = re.compile(r"nvidia-ml-py=")


def main() -> None:
    """Write both files."""
    without = [word for name in LEFT_OUT for word in ("--no-emit-package", name)]
    source = str(HERE / "requirements.in")
    pins = compiled("--python-version", "3.10", *without, source)
    gpu = [pin for pin in pins if GPU.match(pin) and not EVERYWHERE.match(pin)]
    (HERE / "requirements.txt").write_text("\n".join(p for p in pins if p not in gpu) + "\n")
    (HERE / "gpu.txt").write_text("\n".join(gpu) + "\n")


if __name__ == "__main__":
    main()
