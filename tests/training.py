"""Small trainings of the tiny model, and builds that tests stop in the middle."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from tasks.core import paths
from tests.conftest import doit

TINY = Path("recipes/tiny-agent").absolute()
RECIPE = f"""
base: {{path: {TINY}/base}}
data: {{path: {TINY}/data}}
train:
  prompt_template: llama3_chat
  max_length: 256
  pack_to_max_length: false
  use_activation_checkpointing: false
  batch_size: 1
  accumulative_counts: 2
  max_iters: 24
  log_interval: 4
  lr: 5e-3
  dtype: float32
  lora: {{r: 4, alpha: 8, dropout: 0}}
  save_steps: 8
  launch: {{threads: 1}}
"""


def recipe(launch: str) -> str:
    """Return the recipe with another launch."""
    return RECIPE.replace("{threads: 1}", f"{{threads: 1, {launch}}}")


def few(text: str, folder: Path, count: int) -> str:
    """Return a recipe with the first of its data's rows, which are written into a folder."""
    folder.mkdir(parents=True)
    rows = (TINY / "data" / "single.jsonl").read_text().splitlines(keepends=True)
    (folder / "rows.jsonl").write_text("".join(rows[:count]))
    return text.replace(f"{TINY}/data", str(folder))


@dataclass
class Bench:
    """Recipes and a build folder, and the environment that builds run in.

    Attributes:
        within: a command that runs a build in the background in other surroundings.
    """

    folder: Path
    xtuner: str
    environ: dict[str, str] = field(default_factory=dict)
    within: Sequence[str] = ()

    @property
    def build(self) -> Path:
        return self.folder / "build"

    @property
    def recipes(self) -> Path:
        return self.folder / "recipes"

    def write(self, model: str, text: str) -> None:
        self.recipes.mkdir(exist_ok=True)
        (self.recipes / f"{model}.yaml").write_text(text)

    def doit(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return doit(
            *arguments, build=self.build, recipes=self.recipes, xtuner=self.xtuner, **self.environ
        )

    def log(self, model: str) -> str:
        return (self.build / model / "logs" / "train.log").read_text()

    def merged_at(self, model: str) -> Path:
        return self.build / model / "merge" / "model.safetensors"

    def merged(self, model: str) -> bytes:
        return self.merged_at(model).read_bytes()

    def adapter(self, model: str) -> dict[str, Any]:
        return load_file(self.build / model / "adapter" / "adapter_model.safetensors")

    def losses(self, model: str) -> list[float]:
        lines = (self.build / model / "train" / "losses.jsonl").read_text().splitlines()
        return [json.loads(line)["loss"] for line in lines]

    def has(self, model: str, number: int) -> Callable[[], bool]:
        """Return whether an unfinished training has left a checkpoint."""
        return lambda: any(self.build.glob(f"{model}/.train-*/iter_{number}.pth"))

    @contextlib.contextmanager
    def building(self, task: str) -> Iterator[subprocess.Popen[str]]:
        """Build in the background; what is left of it ends with the test."""
        environ = {**os.environ, **self.environ, "NO_COLOR": "1"}
        for name, value in (("BUILD", self.build), ("RECIPES", self.recipes)):
            environ[f"MODELWRIGHT_{name}"] = str(value)
        environ["MODELWRIGHT_TOOLCHAIN_XTUNER"] = self.xtuner
        child = subprocess.Popen(
            [*self.within, sys.executable, "-m", "doit", task],
            env=environ,
            cwd=paths.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield child
        finally:
            child.kill()
            child.communicate()

    def stop(self, task: str, when: Callable[[], bool], number: signal.Signals) -> str:
        """Build until something is so, and stop the build by a signal; return what it said."""
        with self.building(task) as child:
            wait(lambda: when() or child.poll() is not None)
            assert child.poll() is None, child.communicate()[0]
            child.send_signal(number)
            return child.communicate(timeout=120)[0]


def wait(condition: Callable[[], bool], seconds: float = 300) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass in time"
        time.sleep(0.05)


def trainers(build: Path) -> list[str]:
    """Return the processes that train in a build folder."""
    found = subprocess.run(["pgrep", "-f", f"launch.py train {build}"], capture_output=True)
    return found.stdout.decode().split()


@contextlib.contextmanager
def halted(build: Path) -> Iterator[None]:
    """Let the processes that train wait where they are, as slow as this machine may be."""
    found = list(map(int, trainers(build)))
    for process in found:
        os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in found:
            os.kill(process, signal.SIGCONT)
