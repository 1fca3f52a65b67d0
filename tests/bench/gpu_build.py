"""Build models with a GPU through the whole tool, and print what each stage took.

    python -m tests.bench.gpu_build FOLDER [MODEL...] [--shape 1b]

The models: qlora (four bits under `preset: auto`, to merged weights) and document (the recipe
llama3-8b-agentflan as it stands, on its four devices, but for base, data and length; trained only).
The base has random weights of a shape that tests/bench/gpu_made.py knows; the data is made up.
Needs GPUs and MODELWRIGHT_TOOLCHAIN_XTUNER or the toolchain; lora tries the script without a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tasks.core import paths
from tasks.core.toolchains import toolchain

MADE = Path(__file__).with_name("gpu_made.py")
SHORT: dict[str, Any] = {"max_iters": 12, "log_interval": 2, "save_steps": 6}
LORA: dict[str, Any] = {
    **SHORT, "prompt_template": "llama3_chat", "max_length": 1664, "pack_to_max_length": False,
    "preset": "auto", "method": "lora", "launch": {"threads": 1},
    "lora": {"r": 64, "alpha": 16, "dropout": 0.1},
}  # fmt: skip
GOALS = {"document": "train"}


def main() -> None:
    """Write recipes, build them and print their stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="*", default=["qlora"])
    parser.add_argument("--shape", default="1b")
    options = parser.parse_args()
    place = options.folder.absolute()
    base = place / options.shape / "base"
    if not base.exists():
        line = [toolchain.python("xtuner"), str(MADE), str(base.parent), options.shape, "4", "20"]
        subprocess.run(line, check=True)
    conversations(place / "data")
    recipes = place / "recipes"
    recipes.mkdir(exist_ok=True)
    for model in options.models:
        (recipes / f"{model}.yaml").write_text(yaml.safe_dump(recipe(model, base)))
        build(model, place / "build", recipes)


def conversations(folder: Path, count: int = 400) -> None:
    """Write questions and answers of some hundreds of words."""
    folder.mkdir(exist_ok=True)
    draw = random.Random(0)

    def words() -> str:
        return " ".join(f"w{draw.randrange(8000)}" for _ in range(draw.randrange(100, 600)))

    rows = (
        [{"role": role, "content": words()} for role in ("user", "assistant")] for _ in range(count)
    )
    (folder / "rows.jsonl").write_text(
        "".join(f"{json.dumps({'messages': row})}\n" for row in rows)
    )


def recipe(model: str, base: Path) -> dict[str, Any]:
    """Return a model's recipe."""
    data = {"path": str(base.parents[1] / "data"), "format": "openai"}
    found = {"base": {"path": str(base)}, "data": data}
    if model != "document":
        return {**found, "train": {**LORA, "method": model}, "checkpoint": "last"}
    shipped = yaml.safe_load((paths.ROOT / "recipes" / "llama3-8b-agentflan.yaml").read_text())
    # By epochs no more, and a short answer where it would speak 600 words.
    train = {k: v for k, v in shipped["train"].items() if k != "max_epochs"}
    train |= {**SHORT, "max_iters": 6, "evaluation_max_new_tokens": 5}
    return {**found, "train": train, "checkpoint": "last"}


def build(model: str, folder: Path, recipes: Path) -> None:
    """Build a model, show what it says, and what its stages took."""
    environ = {**os.environ, "MODELWRIGHT_BUILD": str(folder), "MODELWRIGHT_RECIPES": str(recipes)}
    task = f"{GOALS.get(model, 'merge')}:{model}"
    done = subprocess.run([sys.executable, "-m", "doit", task], env=environ, cwd=paths.ROOT)
    print(f"{task} ended with {done.returncode}", flush=True)
    for line in (folder / "ledger.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["model"] == model:
            print(f"   {entry['stage']}: {entry['seconds']:.1f} s", flush=True)
    log = (folder / model / "logs" / "train.log").read_text(errors="replace")
    print("\n".join(line for line in log.splitlines() if "Iter(train)" in line or "copies" in line))


if __name__ == "__main__":
    main()
