"""Kill a training on two devices after a checkpoint, go on with it, and compare the losses.

    python -m tests.bench.gpu_resume FOLDER [--shape 8b] [--way zero3]

The model, the data and the ways are those of tests/bench/gpu.py; a training that nobody disturbs
comes first.  Ends with 1 if the losses after the kill differ from its by more than LIMIT.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from tests.bench import gpu

ITERATIONS = 18
# A checkpoint after every so many: whole steps, as some batches may be accumulated for one.
SAVED = 8
KILLED = 11
LIMIT = 0.01


def main() -> None:
    """Train undisturbed, killed and again; print the three rows of losses."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", default="8b")
    parser.add_argument("--way", default="zero3")
    options = parser.parse_args()
    place = gpu.made(options.folder, options.shape, 1600, 850)
    alone, killed = place / f"{options.way}-alone", place / f"{options.way}-killed"
    for folder in (alone, killed):
        folder.mkdir()
    _train(alone, options.way, "notes")
    _train(killed, options.way, "notes", kill=True)
    saved = sorted(path.name for path in (killed / "work").glob("iter_*"))
    _train(killed, options.way, "again")
    whole, before, after = (
        _losses(alone, "notes"),
        _losses(killed, "notes"),
        _losses(killed, "again"),
    )
    print(f"alone  {whole}\nkilled {before}, of which it left {saved}\nagain  {after}")
    apart = max(abs(a - b) for a, b in zip(whole[SAVED:], after, strict=True))
    print(f"the losses after it went on differ by {apart:.4f} at most")
    sys.exit(apart > LIMIT)


def _train(folder: Path, way: str, notes: str, kill: bool = False) -> None:
    """Train in a folder, to the end or until some iterations after a checkpoint."""
    short = replace(gpu.WAYS[way], iterations=ITERATIONS, saved=SAVED)
    line = gpu.command(short, folder.parent, folder)
    environ = {**gpu.environ(), "BENCH_NOTES": str(folder / notes)}
    started = time.time()
    with (folder / f"{notes}.log").open("wb") as log:
        child = subprocess.Popen(
            line, env=environ, cwd=folder.parent, stdout=log, stderr=subprocess.STDOUT
        )
    while child.poll() is None:
        time.sleep(0.1)
        if kill and len(_losses(folder, notes)) >= KILLED:
            child.kill()
    print(
        f"{folder.name}: ended with {child.wait()} after {time.time() - started:.0f} s", flush=True
    )
    if child.returncode != (-signal.SIGKILL if kill else 0):
        sys.exit((folder / f"{notes}.log").read_text(errors="replace")[-3000:])


def _losses(folder: Path, notes: str) -> list[float]:
    path = folder / f"{notes}.0"
    lines = path.read_text().splitlines() if path.exists() else []
    return [round(json.loads(line)["loss"], 4) for line in lines]


if __name__ == "__main__":
    main()
