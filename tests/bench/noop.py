"""Time a build that finds nothing to do, beside DVC and Snakemake on an equal graph, and our looks.

    python -m tests.bench.noop [MODELS ...]

Every model is a chain of its local stages, of which each leaves one small file; the peers have the
same chains.  `dvc` and `snakemake` are taken from PATH, and left out where they are missing or have
taken more than five minutes at a smaller size.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from tasks import ON_REQUEST, STAGES
from tasks.core import paths, recipe, settings
from tasks.core.engine import inputs, manifest
from tasks.core.engine.manifest import Manifest

RUNS, PATIENCE = 5, 300
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
RECIPE = """
base: {path: base}
data: {path: data, format: openai}
train: {prompt_template: default, max_iters: 10}
evaluate: {prompts: prompts.jsonl}
image: {base: scratch, layout: false, repository: m}
onboard: {mount: /models/m}
"""


def main() -> None:
    sizes = [int(word) for word in sys.argv[1:]] or [1, 8, 100, 1000]
    slow: set[str] = set()
    print(f"load {os.getloadavg()[0]:.1f}, {RUNS} runs, median s (all)")
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="noop-") as name:
            stages = measure(Path(name), size, slow)
        print(f"{size} models, {stages} stages each", flush=True)


def measure(folder: Path, size: int, slow: set[str]) -> int:
    """Print the times of all tools at one size; return how many stages a model has."""
    models = ours(folder, size)
    stages = [name for name in STAGES if (paths.output(models[0], name)).exists()]
    command = ["./doitw", *models]
    run(command, paths.ROOT)  # cards and reports are made from all the rest
    show("doit alone, all looked at", [sys.executable, "-m", "doit", *models], paths.ROOT)
    run(command, paths.ROOT)
    show("./doitw again", command, paths.ROOT)
    for words in (["list"], ["plan", models[-1]], ["why", f"train:{models[-1]}"]):
        show(f"./doitw {words[0]}", ["./doitw", *words], paths.ROOT)
    for tool, prepare in (("snakemake", snakemake), ("dvc", dvc)):
        if shutil.which(tool) and tool not in slow:
            place = folder / tool
            place.mkdir()
            command = prepare(place, models, stages)
            if run(command, place) > PATIENCE or show(tool, command, place) > PATIENCE:
                slow.add(tool)
    return len(stages)


def show(name: str, command: list[str], place: Path) -> float:
    """Time a command; print and return the median."""
    first = run(command, place)
    taken = [first, *(run(command, place) for _ in range(RUNS - 1 if first < 30 else 0))]
    every = " ".join(f"{seconds:.2f}" for seconds in taken)
    print(f"  {name:28} {statistics.median(taken):7.3f}  ({every})", flush=True)
    return statistics.median(taken)


def run(command: list[str], place: Path) -> float:
    started = time.monotonic()
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{command[:4]}: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    return time.monotonic() - started


def ours(folder: Path, size: int) -> list[str]:
    """Make recipes and, without building anything, the results that a build would leave."""
    os.environ["MODELWRIGHT_RECIPES"] = str(folder / "recipes")
    os.environ["MODELWRIGHT_BUILD"] = str(folder / "build")
    settings.current.cache_clear()
    (folder / "recipes").mkdir()
    names = [f"m{number}" for number in range(size)]
    for name in names:
        own = folder / "recipes" / name
        for part in ("base", "data"):
            (own / part).mkdir(parents=True)
        (own / "base/config.json").write_text(json.dumps({**LLAMA, "name": name}))
        (own / "data/rows.jsonl").write_text('{"messages": []}\n')
        (own / "prompts.jsonl").write_text("")
        own.with_suffix(".yaml").write_text(RECIPE)
    for found in recipe.load():
        for stage in wanted(found):
            publish(stage, found)
    os.environ["MODELWRIGHT_DEFAULT"] = names[0]
    return names


def wanted(found: recipe.Recipe) -> Iterator[str]:
    """Yield the stages that `doit MODEL` builds."""
    for name, stage in STAGES.items():
        if name not in ON_REQUEST and stage.wanted(found):
            yield name


def publish(name: str, found: recipe.Recipe) -> None:
    """Leave what a stage would leave: its targets, and a manifest that fits all inputs."""
    folder, stage = paths.output(found.name, name), cast("Any", STAGES[name])
    for target in stage.task(found).get("targets") or ["file"]:
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / target).write_text(f"{name} of {found.name}\n")
    given = inputs.gather(stage, found)
    facts = {"content": stage.forecast(found)} if hasattr(stage, "forecast") else {}
    key = manifest.key_of(name, given)
    manifest.write(Manifest(found.name, name, key, given, manifest.describe(folder), facts), folder)


def dvc(place: Path, models: list[str], stages: list[str]) -> list[str]:
    """Build the same chains with DVC; return the command to time."""
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"]):
        run(command, place)
    made: dict[str, Any] = {}
    for model in models:
        (place / f"{model}.in").write_text(model)
        before = f"{model}.in"
        for stage in stages:
            out = f"{model}.{stage}"
            made[f"{model}-{stage}"] = {
                "cmd": f"cp {before} {out}", "deps": [before], "outs": [out]
            }  # fmt: skip
            before = out
    (place / "dvc.yaml").write_text(json.dumps({"stages": made}))
    return ["dvc", "repro", "-q"]


def snakemake(place: Path, models: list[str], stages: list[str]) -> list[str]:
    """Build the same chains with Snakemake; return the command to time."""
    rules = [f"rule all:\n    input: {[f'{model}.{stages[-1]}' for model in models]!r}\n"]
    for before, stage in zip(["in", *stages], stages, strict=False):
        rules.append(
            f"rule {stage}:\n    input: '{{m}}.{before}'\n    output: '{{m}}.{stage}'\n"
            "    shell: 'cp {input} {output}'\n"
        )
    (place / "Snakefile").write_text("\n".join(rules))
    for model in models:
        (place / f"{model}.in").write_text(model)
    # What Snakemake's own build would leave, in order of time.
    for model in models:
        for stage in stages:
            (place / f"{model}.{stage}").write_text(model)
    run(["snakemake", "-q", "all", "-c2", "--touch"], place)
    return ["snakemake", "-q", "all", "-c1"]


if __name__ == "__main__":
    main()
