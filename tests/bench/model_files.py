"""Time what moves and adds numbers, each beside its peers in the same run.

    python -m tests.bench.model_files MODELS [RUNS] [NAME ...]

MODELS is a folder made by tests.bench.models.  MODELWRIGHT_TOOLCHAIN_XTUNER must name an
interpreter with xtuner.  Prints a Markdown table: wall time's median, least and greatest, and peak
memory.
"""

from __future__ import annotations

import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.core import paths

HERE = Path(__file__).parent
LAUNCH = paths.ROOT / "tasks/core/xtuner/launch.py"
START = "import sys; from pathlib import Path; from tasks import adapter, archive, merge\n"
MERGE = f"{START}merge.merge(*map(Path, sys.argv[1:4]), 5 * 10**9)"
ZIP = f"{START}archive.pack(Path(sys.argv[1]), Path(sys.argv[2]) / 'merged.zip', 'm')"
ADAPTER = f"{START}adapter.extract(*map(Path, sys.argv[1:4]), 'base')"


@dataclass(frozen=True)
class Job:
    """A command to time; OUT in it is an empty folder."""

    name: str
    command: list[str]


def jobs(models: Path) -> Iterator[Job]:
    own, foreign = sys.executable, os.environ["MODELWRIGHT_TOOLCHAIN_XTUNER"]
    base, adapter = str(models / "base"), str(models / "adapter")
    yield Job("merge", [own, "-c", MERGE, base, adapter, "OUT"])
    copy = f"cp {base}/*.safetensors OUT && sha256sum OUT/*.safetensors"
    yield Job("merge: cp + sha256sum", ["bash", "-c", copy])
    yield Job("merge: PEFT", [foreign, str(HERE / "peft_merge.py"), base, adapter, "OUT"])
    theirs = [foreign, str(LAUNCH), "merge", base, adapter, "OUT", "--device", "cpu"]
    yield Job("merge: xtuner", [*theirs, "--safe-serialization"])
    yield Job("zip", [own, "-c", ZIP, base, "OUT"])
    yield Job("zip: cp", ["bash", "-c", f"cp {base}/*.safetensors OUT"])
    if (models / "iter_1.pth").exists():
        config = str(models / "config.py")
        yield Job("adapter", [own, "-c", ADAPTER, str(models / "iter_1.pth"), config, "OUT"])


def main() -> None:
    models, runs, names = Path(sys.argv[1]), int((sys.argv[2:] or ["5"])[0]), sys.argv[3:]
    found = [job for job in jobs(models) if not names or job.name.split(":")[0] in names]
    times: dict[str, list[tuple[float, float]]] = {job.name: [] for job in found}
    print(f"load before: {os.getloadavg()[0]:.1f}")
    for _ in range(runs):
        for job in found:
            times[job.name].append(timed(job, models / "out"))
            print(job.name, *times[job.name][-1], file=sys.stderr)
    print(f"load after: {os.getloadavg()[0]:.1f}\n")
    print("| what | median s | least to greatest | peak GB |\n|---|---|---|---|")
    for name, each in times.items():
        walls = [wall for wall, _ in each]
        peak = max(memory for _, memory in each)
        span = f"{min(walls):.1f} to {max(walls):.1f}"
        print(f"| {name} | {statistics.median(walls):.1f} | {span} | {peak:.2f} |")


def timed(job: Job, out: Path) -> tuple[float, float]:
    """Return a command's wall time and the peak of its resident memory in GB."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    os.sync()
    command = [part.replace("OUT", str(out)) for part in job.command]
    started = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - started
    if status:
        raise SystemExit(f"{job.name} failed: {' '.join(command)}")
    shutil.rmtree(out)
    return wall, _peak(usage)


def _peak(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / 1e6


if __name__ == "__main__":
    main()
