"""Pin every package of the xtuner toolchain with its hashes.

requirements.txt is for every machine, gpu.txt comes on top where torch is a CUDA build.

Run by hand, with uv on PATH, after an edit of requirements.in:  python tasks/core/xtuner/lock.py
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
GPU = re.compile(r"(nvidia|cuda|triton|bitsandbytes|liger-kernel)[-=]")
COMPILE = [
    "uv",
    "pip",
    "compile",
    "--universal",
    "--generate-hashes",
    "--no-header",
    "--no-annotate",
]


def compiled(*arguments: str) -> list[str]:
    """Return the pins that uv finds, one text each, with their hashes."""
    done = subprocess.run([*COMPILE, *arguments], capture_output=True, text=True, check=True)
    return re.findall(r"^\S.*(?:\n {4}.*)*", done.stdout, re.MULTILINE)


def main() -> None:
    """Write both files."""
    source = str(HERE / "requirements.in")
    pins = compiled("--python-version", "3.10", "--no-emit-package", "torch", source)
    # xtuner's own list is not read: it has torchvision, which our launcher makes needless.
    own = HERE / "xtuner.in"
    own.write_text("xtuner==0.2.0\n")
    pins += compiled("--no-deps", "--python-version", "3.11", str(own))
    own.unlink()
    gpu = [pin for pin in pins if GPU.match(pin)]
    (HERE / "requirements.txt").write_text("\n".join(p for p in pins if p not in gpu) + "\n")
    (HERE / "gpu.txt").write_text("\n".join(gpu) + "\n")


if __name__ == "__main__":
    main()
