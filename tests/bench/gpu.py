"""Train one model in several ways and print how fast each is.

    python -m tests.bench.gpu FOLDER [WAY...] [--shape 8b] [--limit SECONDS]

Makes a model of Llama-3-8B's shape with random weights and conversations in FOLDER (16 GB; a folder
in memory is best), once.  Ways: document (its own settings, ZeRO-3 with offload), document-one (the
same without DeepSpeed), same-steps (ours, a conversation an iteration), auto (train.preset), plain
(transformers and PEFT), qlora, qlora-24, qlora-16 (as if the device had no more gigabytes), ddp,
zero2, zero3 (two devices).  A way that is joined to another by `+` runs at the same time, on other
devices or, if it is only for its losses, on the same one; one that is named again runs again.
large and large-qlora are for `--shape 32b` (66 GB) or `70b` (141 GB).
Needs a GPU and an xtuner toolchain, or MODELWRIGHT_TOOLCHAIN_XTUNER.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks import config
from tasks.core import preset, render, settings
from tasks.core.launching import local
from tasks.core.recipe import Recipe
from tasks.core.toolchains import toolchain, torchbuild

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
LAUNCH = ROOT / "tasks" / "core" / "xtuner" / "launch.py"
# An H200's and H100's dense bfloat16, by the data sheet.
PEAK = 989e12
DATA = {"prompt_template": "llama3_chat", "max_length": 1664, "log_interval": 10, "seed": 7}
LORA = {"lora": {"r": 64, "alpha": 16, "dropout": 0.1}, "lr": 2e-4, "evaluation_freq": None}
DOCUMENT = {
    **DATA, **LORA, "pack_to_max_length": False, "use_activation_checkpointing": True,
    "batch_size": 1, "accumulative_counts": 16, "dtype": "float16",
}  # fmt: skip


@dataclass(frozen=True)
class Way:
    """A way to train: the recipe's values, iterations, processes, DeepSpeed's stage.

    Attributes:
        gigabytes: the device's memory, if less than there is.
        saved: after how many iterations there is a checkpoint; none where it is 0.
    """

    train: dict[str, Any]
    iterations: int
    processes: int = 1
    deepspeed: str = ""
    gigabytes: int = 0
    saved: int = 0


AUTO = {**DATA, **LORA, "preset": "auto"}
QLORA = {**AUTO, "method": "qlora"}
ALIKE = {"batch_size": 1, "accumulative_counts": 1, "pack_to_max_length": False}
WAYS = {
    "document": Way(DOCUMENT, 16, deepspeed="zero3_offload"),
    "document-one": Way({**DOCUMENT, **ALIKE}, 200),
    "same-steps": Way({**AUTO, **ALIKE}, 200),
    "auto": Way(AUTO, 40),
    "qlora": Way(QLORA, 20),
    "qlora-24": Way(QLORA, 20, gigabytes=24),
    "qlora-16": Way(QLORA, 20, gigabytes=16),
    "ddp": Way(AUTO, 20, processes=2),
    "zero2": Way(AUTO, 20, processes=2, deepspeed="zero2"),
    "zero3": Way(AUTO, 20, processes=2, deepspeed="zero3"),
    "large": Way(AUTO, 6),
    "large-qlora": Way(QLORA, 5),
}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "ways", nargs="*", default=["document", "document-one+same-steps", "auto", "plain"]
    )
    parser.add_argument("--shape", default="8b")
    parser.add_argument("--conversations", type=int, default=1600)
    parser.add_argument("--words", type=int, default=850)
    parser.add_argument("--limit", type=int, default=240, help="seconds for each way")
    parser.add_argument("--devices", default="", help="for each of the joined ways, as 0,1/2,3")
    options = parser.parse_args()
    if options.shape != "tiny" and not torchbuild.has_gpu():
        sys.exit("skipped: no NVIDIA GPU here; --shape tiny tries the script without one")
    place = made(options.folder, options.shape, options.conversations, options.words)
    for ways in options.ways:
        devices = options.devices.split("/") if options.devices else [""] * 9
        running = [_start(way, place, d) for way, d in zip(ways.split("+"), devices, strict=False)]
        for folder, child, started in running:
            try:
                status = child.wait(max(1, started + options.limit - time.time()))
            except subprocess.TimeoutExpired:
                status = None
                child.terminate()
                child.wait(30)
            report(folder, started, status)


def made(folder: Path, shape: str, conversations: int, words: int) -> Path:
    """Return the place of a model and its data, which are made if they are not there."""
    place = folder.absolute() / shape
    os.environ["MODELWRIGHT_BUILD"] = str(place.parent)
    if not (place / "convert" / "state.json").exists():
        started = time.time()
        what = map(str, (place, shape, conversations, words))
        line = [_python(), str(HERE / "gpu_made.py"), *what]
        subprocess.run(line, check=True, env=environ())
        print(f"made {shape} in {time.time() - started:.0f} s", flush=True)
    return place


def _python() -> str:
    return toolchain.python("xtuner")


def environ() -> dict[str, str]:
    found = {
        **os.environ,
        "PYTHONHASHSEED": "0",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    found["PYTHONPATH"] = os.pathsep.join(p for p in (str(HERE), os.environ.get("PYTHONPATH")) if p)
    return found


def _start(name: str, place: Path, device: str) -> tuple[Path, subprocess.Popen[bytes], float]:
    """Start a way in a folder of its own, to which its output goes."""
    folder = next(f for n in itertools.count(1) if not (f := place / f"{name}.{n}").exists())
    folder.mkdir()
    variables = {**environ(), "BENCH_NOTES": str(folder / "notes")}
    if device:
        variables["CUDA_VISIBLE_DEVICES"] = device
    if name == "plain":
        line = [_python(), str(HERE / "gpu_plain.py"), str(place), "24", "4", "1664"]
    else:
        line = command(WAYS[name], place, folder)
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(
            line, env=variables, cwd=place, stdout=log, stderr=subprocess.STDOUT
        )
    return folder, child, time.time()


def command(way: Way, place: Path, folder: Path) -> list[str]:
    """Render the config as the config stage does, and return the command that trains with it."""
    (folder / "config.py").write_text(_config(way, place))
    start, more = [_python()], []
    if way.gigabytes:
        start += [str(HERE / "gpu_small.py"), str(way.gigabytes)]
    if way.processes > 1 or way.deepspeed:
        start += ["-m", "torch.distributed.run", f"--nproc-per-node={way.processes}", *local.HERE]
        more += ["--launcher", "pytorch"]
    if way.deepspeed:
        more += ["--deepspeed", f"deepspeed_{way.deepspeed}"]
    words = ("train", str(folder / "config.py"), "--work-dir", str(folder / "work"))
    return [*start, str(LAUNCH), *words, *more]


def _config(way: Way, place: Path) -> str:
    launch: dict[str, Any] = {"processes": way.processes}
    if way.processes > 1 or way.deepspeed:
        launch["deepspeed"] = way.deepspeed or None
    values: Any = {"max_epochs": 1, "save_steps": 10**6, "launch": launch, **way.train}
    recipe = Recipe(name=place.name, file=Path("bench.yaml"), base={"path": "base"}, train=values)  # type: ignore[arg-type]
    if way.gigabytes:
        os.environ["MODELWRIGHT_DEVICES"] = f"{way.gigabytes} GB"
    else:
        os.environ.pop("MODELWRIGHT_DEVICES", None)
    settings.current.cache_clear()
    choice = preset.choice(recipe)
    for reason in choice.reasons:
        print(f"   {reason}", flush=True)
    # Chosen as for whole epochs, stopped after some iterations.
    short = {"max_epochs": None, "max_iters": way.iterations}
    choice = replace(choice, train=choice.train.model_copy(update=short))
    text = render.text(config.TEMPLATE, **config.variables(recipe, choice))
    # Its own line for every iteration, and seldom a checkpoint of the whole optimiser.
    text = text.replace("import torch\n", "import torch\nfrom gpu_hook import Note\n", 1)
    text = text.replace(
        "    dict(type=ThroughputHook),\n", "    dict(type=ThroughputHook),\n    dict(type=Note),\n"
    )
    saving = f'["interval"] = {way.saved}' if way.saved else " = None"
    return f'{text}\ndefault_hooks["checkpoint"]{saving}\n'


def report(folder: Path, started: float, status: int | None) -> None:
    """Print and keep one run's figures: the median of iterations, the first fifth left out."""
    place = folder.parent
    notes = [
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in sorted(folder.glob("notes.*"))
    ]
    found: dict[str, Any] = {"way": folder.name, "status": status}
    if notes and len(notes[0]) > 3:
        first = notes[0]
        skip = max(2, len(first) // 5)
        span = first[-1]["time"] - first[skip - 1]["time"]
        tokens = sum(note["tokens"] for rank in notes for note in rank[skip:])
        gaps = [b["time"] - a["time"] for a, b in itertools.pairwise(first)][skip - 1 :]
        found |= {
            "iterations": len(first),
            "tokens_per_second": round(tokens / span),
            "seconds": round(statistics.median(gaps), 3),
            "memory_gb": round(max(n["memory"] for rank in notes for n in rank) / 1e9, 1),
            "start_up": round(first[0]["time"] - started, 1),
            "losses": [round(note["loss"], 4) for note in first],
            "gaps": [round(gap, 3) for gap in gaps],
            "waiting": _waiting(folder / "log"),
        }
        if place.name == "8b":
            found["mfu"] = round(tokens / span * 4 * 7.504e9 / PEAK / len(notes), 3)
    else:
        found["log"] = (folder / "log").read_text(errors="replace")[-3000:]
    with (Path(os.environ.get("OUT", place)) / "gpu.jsonl").open("a") as file:
        file.write(json.dumps(found) + "\n")
    said = {k: v for k, v in found.items() if k not in ("losses", "gaps")}
    print(
        f"{json.dumps(said)}  losses {found.get('losses', [])[:2]} {found.get('losses', [])[-2:]}",
        flush=True,
    )


def _waiting(log: Path) -> float | None:
    """Return the share of time that passed before batches came, by xtuner's log but its start."""
    lines = re.findall(r" time: ([\d.]+)  data_time: ([\d.]+)", log.read_text(errors="replace"))[1:]
    return (
        round(sum(float(w) for _, w in lines) / sum(float(t) for t, _ in lines), 4)
        if lines
        else None
    )


if __name__ == "__main__":
    main()
