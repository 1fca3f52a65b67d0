#!/usr/bin/env python3
"""A stand-in for the xtuner toolchain's interpreter: it does what xtuner does to files, slowly.

standin.py -c CODE                     answers the question for versions
standin.py .../launch.py train ...     writes iter_N.pth with pauses, logs, goes on where told
standin.py .../convert.py FROM TO      writes a dataset
standin.py .../answer.py ...           writes answers
"""

from __future__ import annotations

import json
import re
import sys
import time
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import torchzip  # type: ignore[import-not-found]

ITERATIONS, EVERY, PAUSE = 24, 4, 0.02
SHAPES = {
    **{f"self_attn.{name}_proj": (128, 128) for name in "qkvo"},
    "mlp.gate_proj": (384, 128),
    "mlp.up_proj": (384, 128),
    "mlp.down_proj": (128, 384),
}
VERSIONS = {
    "torch": "2.13.0",
    "xtuner": "0.2.0",
    "mmengine": "0.10.6",
    "transformers": "4.48.0",
    "peft": "0",
    "datasets": "0",
    "safetensors": "0",
}


def adapter(state: int) -> dict[str, torchzip.Tensor]:
    """Return a LoRA adapter of rank 8 for the tiny base, which depends on all that was trained."""
    names = [
        f"llm.base_model.model.model.layers.{layer}.{module}.lora_{part}.default.weight"
        for layer in range(5)
        for module in SHAPES
        for part in "AB"
    ]
    found = {}
    for key, name in enumerate(names):
        rows, columns = SHAPES[name.split(".", 6)[6].rsplit(".", 3)[0]]
        shape = (8, columns) if ".lora_A." in name else (rows, 8)
        found[name] = torchzip.Tensor(key, shape, (state % 1000 + key) / 1e6)
    return found


def train(work: Path, options: list[str]) -> None:
    """Write checkpoints as torch does: the table of contents comes last."""
    told = " ".join(options)
    resumed = re.search(r"load_from=\S*iter_(\d+)\.pth", told)
    state = 0
    if resumed:
        with zipfile.ZipFile(work / f"iter_{resumed[1]}.pth") as file:
            state = int(file.read("archive/version").split()[1])
    for iteration in range(int(resumed[1]) + 1 if resumed else 1, ITERATIONS + 1):
        time.sleep(PAUSE)
        state = (state * 31 + iteration) % 1_000_003
        rate = 5e-3 * iteration / ITERATIONS
        print(
            f"x - mmengine - INFO - Iter(train) [{iteration:>3}/{ITERATIONS}]  lr: {rate:.4e}  "
            f"eta: 0:00:01  time: 0.02  data_time: 0.0  loss: {1 / iteration:.4f}",
            flush=True,
        )
        if iteration % EVERY == 0:
            torchzip.save(work / f"iter_{iteration}.pth", adapter(state), version=f"3 {state}")
            (work / "last_checkpoint").write_text(str(work / f"iter_{iteration}.pth"))


def main() -> None:
    """Do what the arguments ask for."""
    program, *rest = sys.argv[1:]
    name = Path(program).name
    if program == "-c":
        print(json.dumps({"site": str(Path(__file__).parent), "versions": VERSIONS}))
    elif name == "launch.py" and rest[0] == "train":
        train(Path(rest[rest.index("--work-dir") + 1]), rest)
    elif name == "convert.py":
        convert(rest)
    elif name == "answer.py":
        answer(rest)
    else:
        raise SystemExit(f"no stand-in for {sys.argv}")


def convert(arguments: list[str]) -> None:
    """Write what a dataset's folder has."""
    place = Path(arguments[1])
    for file in ("data-00000-of-00001.arrow", "dataset_info.json", "state.json"):
        time.sleep(PAUSE)
        (place / file).write_text("{}")
    print(json.dumps({"rows": 1, "turns": 1}))


def answer(arguments: list[str]) -> None:
    """Write an answer for each turn of each prompt, model by model, each file whole or not."""
    path, _, _, *models = arguments
    chats = [json.loads(line) for line in Path(path).read_text().splitlines()]
    for out in map(Path, models[2::3]):
        answered = [json.dumps(["no"] * len(chat["turns"])) + "\n" for chat in chats]
        time.sleep(PAUSE * 10)
        out.with_suffix(".new").write_text("".join(answered))
        out.with_suffix(".new").rename(out)


if __name__ == "__main__":
    main()
