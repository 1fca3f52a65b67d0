"""Time what the engine adds to a stage: hashing, restoring, state and locks.

    python -m tests.bench.engine [FOLDER [GIB]]

FOLDER lies on the disk to measure; a file of GIB (4) is made in it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tasks.core import paths, recipe, settings
from tasks.core.engine import stage

MODELS, RUNS, MIB = 5, 50, 1 << 20
# doit, and then how many bytes this process read, whatever they were cached in.
DOIT = """
import sys
from doit.__main__ import main
sys.argv = ["doit", *sys.argv[1:]]
try:
    main()
finally:
    print("read", open("/proc/self/io").read().split()[1])
"""


def main() -> None:
    parent = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    size = int(sys.argv[2] if len(sys.argv) > 2 else 4) << 30
    with tempfile.TemporaryDirectory(prefix="engine-", dir=parent) as name:
        os.environ["MODELWRIGHT_RECIPES"] = f"{name}/recipes"
        os.environ["MODELWRIGHT_BUILD"] = f"{name}/build"
        settings.current.cache_clear()
        print(f"load {os.getloadavg()[0]:.1f}, a file of {size >> 20} MiB")
        weights = prepare(Path(name), size)
        hashing(weights)
        restoring()
        state(Path(name))


def prepare(folder: Path, size: int) -> Path:
    """Make some recipes that share a base."""
    base = folder / "recipes/base"
    base.mkdir(parents=True)
    shutil.copytree(paths.ROOT / "recipes/tiny-agent/base", base, dirs_exist_ok=True)
    weights = base / "extra.bin"
    with weights.open("wb") as file:
        for _ in range(size // (64 * MIB)):
            file.write(os.urandom(64 * MIB))
    for number in range(MODELS):
        text = f"base: {{path: {base}}}\n"
        (folder / f"recipes/m{number}.yaml").write_text(text)
    return weights


def hashing(weights: Path) -> None:
    """Say how often the file's bytes are read by stages that share it, and how fast."""
    plain = openssl()
    tasks = [f"base:m{number}" for number in range(MODELS)]
    for what in ("first build", "nothing changed", "after touch", "nothing changed"):
        if what == "after touch":
            weights.touch()
        seconds, read = doit(*tasks)
        print(f"{MODELS} stages on one file, {what}: read {read / weights.stat().st_size:.2f} "
              f"times, {seconds:.2f} s")  # fmt: skip
    from tasks.core.engine import digests

    best = min(timed(lambda: digests.read(weights)) for _ in range(3))
    speed = weights.stat().st_size / best / 1e9
    print(f"sha256: {speed:.2f} GB/s, openssl speed {plain:.2f} GB/s: {speed / plain:.0%}")


def openssl() -> float:
    """Return what `openssl speed` gives one core, in GB/s."""
    command = "openssl speed -seconds 2 -bytes 1048576 -evp sha256".split()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(re.findall(r"([\d.]+)k$", done.stdout.strip())[0]) / 1e6


def restoring() -> None:
    """Say how long a large result takes to come back from the store."""
    doit("archive:m0")
    for _ in range(3):
        doit("clean", "archive:m0")
        doit("archive:m0")
    lines = (paths.build() / "ledger.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    back = [line["seconds"] for line in found if line["how"] == "restored"]
    print(f"restored {found[-1]['bytes'] / 1e9:.1f} GB in s: {back}")


def state(folder: Path) -> None:
    """Say what a stage that does nothing costs: locks, keys, manifest, fsync, store, ledger."""
    taken, fsyncs = [], []
    for number in range(RUNS):
        (folder / f"recipes/s{number}.yaml").write_text("base: {path: base}\n")
        found = recipe.read(folder / f"recipes/s{number}.yaml")
        taken.append(timed(lambda found=found: stage.execute("base", nothing(), found)))
        fsyncs.append(timed(lambda: fsync(folder / "probe")))
    cost, disk = statistics.median(taken) * 1e3, statistics.median(fsyncs) * 1e3
    print(f"a stage that does nothing: {cost:.1f} ms; one fsync of the disk: {disk:.2f} ms")


def nothing() -> Any:
    """Return a stage that writes one small file."""

    def run(recipe: Any, folder: Path) -> dict[str, Any]:
        (folder / "file").write_text(recipe.name)
        return {}

    made = {"task": lambda recipe: {}, "key": lambda recipe: {"name": recipe.name}, "run": run}
    return cast("Any", SimpleNamespace(VERSION=1, **made))


def fsync(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"x")
        file.flush()
        os.fsync(file.fileno())


def timed(work: Any) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def doit(*words: str) -> tuple[float, int]:
    """Run doit; return the seconds and the bytes that it read."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", DOIT, *words], cwd=paths.ROOT, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"doit {words}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    return time.monotonic() - started, int(done.stdout.split()[-1])


if __name__ == "__main__":
    main()
