"""Time the way in from a Hub and the way out to a bucket: ours, and those that people use today.

    python -m tests.bench.inout [in|out] [RUNS]

2 GiB in 1 and in 200 files, servers on this machine: they share its cores with the client.
Every run starts a new process and begins with nothing done; the order changes from round to round.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SIZE = 2 << 30
COUNTS = (1, 200)
FETCH = """
import sys
from pathlib import Path
from tasks.core import hub
from tasks.core.sections import Data, Source
source = Source(hub="org/model")
commit, files = hub.resolve(source)
hub.fetch(source, commit, files, Path(sys.argv[1]) / "out")
"""
SNAPSHOT = """
import sys
from huggingface_hub import snapshot_download
from huggingface_hub.utils import disable_progress_bars
disable_progress_bars()
snapshot_download("org/model", local_dir=sys.argv[1])
"""
Way = Callable[[Path], None]


def fill(folder: Path, count: int) -> None:
    """Write SIZE random bytes in some files; equal blocks are no matter, nothing compresses."""
    folder.mkdir(parents=True)
    block = os.urandom(SIZE // max(COUNTS))
    for number in range(count):
        with (folder / f"model-{number:05}.safetensors").open("wb") as file:
            file.write(number.to_bytes(8, "little"))
            for _ in range(max(COUNTS) // count):
                file.write(block)


def run(command: list[str], **variables: str) -> None:
    """Run a command to its end, quietly."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_XET": "1", **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{command[:3]}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


@contextmanager
def hub(folder: Path) -> Iterator[str]:
    """Serve a folder as org/model in a process of its own."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.services.hub", folder],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout
    try:
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.wait()


def rounds(ways: Mapping[str, Way], scratch: Path, runs: int) -> dict[str, list[float]]:
    """Return the seconds of every run of every way."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(runs):
        names = list(ways)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            os.sync()
            start = time.monotonic()
            ways[name](scratch)
            taken[name].append(time.monotonic() - start)
    shutil.rmtree(scratch, ignore_errors=True)
    return taken


def show(title: str, taken: Mapping[str, list[float]]) -> None:
    """Print one line a way: the median and all runs."""
    print(f"\n{title}", flush=True)
    for name, seconds in taken.items():
        every = " ".join(f"{second:.2f}" for second in seconds)
        print(f"  {name:28} {statistics.median(seconds):6.2f} s   ({every})", flush=True)


def bench_in(folder: Path, runs: int) -> None:
    """Download; ours verifies every byte, snapshot_download none."""
    for count in COUNTS:
        model = folder / f"model-{count}"
        fill(model, count)
        with hub(model) as url:
            variables = {"HF_ENDPOINT": url, "HF_HOME": str(folder / "home")}

            def ours(scratch: Path, variables: Mapping[str, str] = variables) -> None:
                build = {"MODELWRIGHT_BUILD": str(scratch)}
                run([sys.executable, "-c", FETCH, str(scratch)], **variables, **build)

            def theirs(scratch: Path, variables: Mapping[str, str] = variables) -> None:
                run([sys.executable, "-c", SNAPSHOT, str(scratch)], **variables)

            ways = {"modelwright": ours, "snapshot_download": theirs}
            show(f"in, 2 GiB in {count} files", rounds(ways, folder / "scratch", runs))
        shutil.rmtree(model)


def main() -> None:
    """Run what is asked for."""
    what = sys.argv[1] if len(sys.argv) > 1 else "in"
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/tmp")) as folder:
        {"in": bench_in}[what](Path(folder), runs)


if __name__ == "__main__":
    main()
