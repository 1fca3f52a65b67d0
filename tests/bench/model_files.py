"""Time what moves and adds numbers, each beside its peers in the same run.

    python -m tests.bench.model_files MODELS [RUNS] [NAME ...]

MODELS is a folder made by tests.bench.models, lora_checkpoint and conversations; what is not there
is not measured.  MODELWRIGHT_TOOLCHAIN_XTUNER must name an interpreter with xtuner; MERGEKIT may
name mergekit-yaml.  With COLD set, what is read is put out of the page cache before each run.
Prints a Markdown table: wall time's median, least and greatest, processor time, and peak memory of
a process.
"""

from __future__ import annotations

import os
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
XTUNER = paths.ROOT / "tasks/core/xtuner"
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
    theirs = [foreign, str(XTUNER / "launch.py"), "merge", base, adapter, "OUT", "--device", "cpu"]
    yield Job("merge: xtuner", [*theirs, "--safe-serialization"])
    if mergekit := os.environ.get("MERGEKIT"):
        # Its `passthrough` of one model with an adapter is nothing but the merge.
        recipe = f"{{merge_method: passthrough, models: [{{model: {base}+{adapter}}}]}}"
        options = "OUT/merged --lora-merge-cache OUT/cache"
        merge = f"echo '{recipe}' > OUT/recipe.yaml; {mergekit} OUT/recipe.yaml {options}"
        yield Job("merge: mergekit", ["bash", "-c", merge])
    yield Job("zip", [own, "-c", ZIP, base, "OUT"])
    yield Job("zip: cp", ["bash", "-c", f"cp {base}/*.safetensors OUT"])
    if (models / "iter_1.pth").exists():
        config = str(models / "config.py")
        yield Job("adapter", [own, "-c", ADAPTER, str(models / "iter_1.pth"), config, "OUT"])
    if (models / "data").exists():
        data, script = str(models / "data"), str(HERE / "document_convert.py")
        yield Job("convert", [foreign, str(XTUNER / "convert.py"), data, "OUT", "agentflan"])
        yield Job("convert: the document's script", [foreign, script, data, "OUT"])


def main() -> None:
    models, runs, names = Path(sys.argv[1]), int((sys.argv[2:] or ["5"])[0]), sys.argv[3:]
    found = [job for job in jobs(models) if not names or job.name.split(":")[0] in names]
    times: dict[str, list[tuple[float, float, float]]] = {job.name: [] for job in found}
    print(f"load before: {os.getloadavg()[0]:.1f}")
    for _ in range(runs):
        for job in found:
            prepare(models)
            times[job.name].append(timed(job, models / "out"))
            print(job.name, *times[job.name][-1], file=sys.stderr)
    print(f"load after: {os.getloadavg()[0]:.1f}\n")
    print("| what | median s | least to greatest | processor s | peak GB |\n|---|---|---|---|---|")
    for name, each in times.items():
        walls, busy, peaks = zip(*each, strict=True)
        span = f"{min(walls):.1f} to {max(walls):.1f}"
        middle = f"{statistics.median(walls):.1f} | {span} | {statistics.median(busy):.1f}"
        print(f"| {name} | {middle} | {max(peaks):.2f} |")


def prepare(models: Path) -> None:
    """Put what is read into the page cache, or out of it: the same for all."""
    os.sync()
    # Twice: in a virtual machine, what came from the disk is slow to read the first time.
    for path in [path for path in models.rglob("*") if path.is_file()] * 2:
        with path.open("rb", buffering=0) as file:
            if os.environ.get("COLD"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            else:
                while file.read(1 << 22):
                    pass


def timed(job: Job, out: Path) -> tuple[float, float, float]:
    """Return a command's wall time, its processor time, and its peak of resident memory in GB."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    command = [part.replace("OUT", str(out)) for part in job.command]
    started = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.monotonic() - started
    if status:
        raise SystemExit(f"{job.name} failed: {' '.join(command)}")
    shutil.rmtree(out)
    return wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6


if __name__ == "__main__":
    main()
