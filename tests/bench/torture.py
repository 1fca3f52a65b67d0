"""Kill the default recipe's build again and again, at random; the end must be the same bytes.

    python -m tests.bench.torture KILLS [--real]

Without --real, a stand-in takes xtuner's place: it writes checkpoints slowly, logs as xtuner does
and goes on from the checkpoint that it is given.  With --real, it is xtuner itself, on a short
recipe.  Prints how many kills were survived, and fails on the first byte that differs.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TINY = ROOT / "recipes" / "tiny-agent"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
RECIPE = f"""
base: {{path: {TINY}/base}}
data: {{path: {TINY}/data}}
train:
  prompt_template: llama3_chat
  max_length: 256
  pack_to_max_length: false
  use_activation_checkpointing: false
  batch_size: 4
  accumulative_counts: 1
  max_iters: 24
  log_interval: 4
  lr: 5e-3
  dtype: float32
  lora: {{r: 8, alpha: 16, dropout: 0}}
  save_steps: 4
  save_total_limit: -1
  launch: {{threads: 1}}
evaluate: {{prompts: {TINY}/prompts.jsonl, max_new_tokens: 8}}
image: {{base: scratch, repository: some/where}}
"""
STAND_IN = ROOT / "tests" / "bench" / "standin.py"


def start(folder: Path, build: str, interpreter: str) -> subprocess.Popen[bytes]:
    """Start a build of the recipe in a folder of its own."""
    environ = {
        **os.environ,
        "MODELWRIGHT_RECIPES": str(folder / "recipes"),
        "MODELWRIGHT_BUILD": str(folder / build),
        "MODELWRIGHT_TOOLCHAIN_XTUNER": interpreter,
    }
    log = (folder / f"{build}.log").open("ab")
    command = [sys.executable, "-m", "doit", "m"]
    return subprocess.Popen(command, env=environ, cwd=ROOT, stdout=log, stderr=log)


def manifests(build: Path) -> dict[str, bytes]:
    """Return every stage's manifest."""
    return {path.parent.name: path.read_bytes() for path in build.glob("m/*/manifest.json")}


def survive(folder: Path, kills: int, interpreter: str, longest: float, seed: int) -> int:
    """Kill builds at random until so many were killed; return how many builds came to their end."""
    rng, done, ended = random.Random(seed), 0, 0
    truth = manifests(folder / "truth")
    while done < kills:
        build = start(folder, "killed", interpreter)
        try:
            status = build.wait(rng.uniform(0.05, longest))
        except subprocess.TimeoutExpired:
            build.send_signal(rng.choice(SIGNALS))
            build.wait()
            done += 1
            continue
        if status:
            raise SystemExit(f"a build failed by itself: see {folder}/killed.log")
        ended += 1
        compare(truth, manifests(folder / "killed"), folder)
        subprocess.run(["rm", "-rf", folder / "killed"], check=True)
    build = start(folder, "killed", interpreter)
    if build.wait():
        raise SystemExit(f"the last build failed: see {folder}/killed.log")
    compare(truth, manifests(folder / "killed"), folder)
    return ended + 1


def compare(truth: dict[str, bytes], found: dict[str, bytes], folder: Path) -> None:
    """Fail where a manifest differs from an undisturbed build's."""
    wrong = [stage for stage in truth if truth[stage] != found.get(stage)]
    if wrong or truth.keys() != found.keys():
        raise SystemExit(f"{wrong} differ in {folder}")


def main() -> None:
    """Build once undisturbed, then kill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    (folder / "recipes").mkdir()
    (folder / "recipes" / "m.yaml").write_text(RECIPE)
    from tasks.core.toolchains import toolchain

    interpreter = toolchain.python("xtuner") if options.real else str(STAND_IN)
    began = time.monotonic()
    if start(folder, "truth", interpreter).wait():
        raise SystemExit(f"the undisturbed build failed: see {folder}/truth.log")
    alone = time.monotonic() - began
    ended = survive(folder, options.kills, interpreter, alone * 1.2, options.seed)
    seconds = time.monotonic() - began
    print(
        f"{options.kills} kills, {ended} builds came to their end with identical manifests; "
        f"an undisturbed build takes {alone:.1f} s, all took {seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
