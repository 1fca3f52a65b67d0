"""What is to be trained, wherever that will be."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from .. import paths, xtuner
from ..engine import pools
from ..errors import UserError
from ..recipe import Recipe
from ..sections import ZERO, Train
from ..toolchains import toolchain, torchbuild

# xtuner's name for each of its files of DeepSpeed's settings.
XTUNER_ZERO = "deepspeed_{}"
# Models whose attention xtuner shares among devices through transformers' registry.
SHARED = ("llama", "qwen2")


@dataclass(frozen=True)
class Job:
    """A training: its recipe, and the scratch folder that its checkpoints go to.

    Attributes:
        train: the recipe's hyper-parameters, with what a preset chose.
    """

    recipe: Recipe
    train: Train
    folder: Path

    @property
    def config(self) -> Path:
        """The rendered config."""
        return paths.output(self.recipe.name, "config") / "config.py"

    @property
    def log(self) -> Path:
        """The log of the stage."""
        return paths.log(self.recipe.name, "train")

    @property
    def effective_batch(self) -> int:
        """How many samples a step of the optimiser sees.

        Devices that share a sequence are fewer batches at once, and xtuner accumulates as many
        more.
        """
        train = self.train
        return train.launch.devices * train.batch_size * train.accumulative_counts

    @property
    def is_distributed(self) -> bool:
        """Whether it takes torchrun; DeepSpeed does with one process, too."""
        return self.train.launch.devices > 1 or self.train.launch.deepspeed is not None

    def shape(self) -> str:
        """Return how the effective batch comes about, in words."""
        launch, train = self.train.launch, self.train
        devices = f"{launch.devices} device{'s' * (launch.devices > 1)}"
        nodes = f" on {launch.nodes} nodes" if launch.nodes > 1 else ""
        batch = f"batch {train.batch_size} x {train.accumulative_counts}"
        return f"{devices}{nodes} x {batch} = {self.effective_batch} samples a step"

    def words(self) -> list[str]:
        """Return the interpreter, our launcher and its arguments; torchrun goes in between."""
        zero = self.train.launch.deepspeed
        options: list[str | Path] = ["--launcher", "pytorch"] if self.is_distributed else []
        if zero:
            options += ["--deepspeed", XTUNER_ZERO.format(zero) if zero in ZERO else self.own_zero]
        return xtuner.command("train", self.config, "--work-dir", self.folder, *options)

    @property
    def own_zero(self) -> Path:
        """The recipe's own file of DeepSpeed's settings."""
        return self.recipe.beside(str(self.train.launch.deepspeed))

    def torchrun(self, *options: str) -> list[str]:
        """Return the command line that starts the processes of a node."""
        python, *rest = self.words()
        return [python, "-m", "torch.distributed.run", *options, *rest]

    def environ(self) -> dict[str, str]:
        """Return what training wants to find in its environment, wherever it runs."""
        extensions = paths.build() / ".toolchains" / f"{toolchain.digest('xtuner')}-extensions"
        # DeepSpeed compiles some operators when they are first used.
        return {**xtuner.environ(self.recipe), "TORCH_EXTENSIONS_DIR": str(extensions.absolute())}

    def check(self) -> None:
        """Refuse a launch that cannot work on any machine."""
        train, file = self.train, self.recipe.file
        size = train.sequence_parallel_size
        if train.launch.devices % size:
            raise UserError(
                f"{file}: train.sequence_parallel_size: {train.launch.devices} devices cannot be "
                f"shared out among sequences on {size} each; make launch.processes x nodes a "
                "multiple of it"
            )
        if size > 1 and not train.launch.deepspeed:
            raise UserError(
                f"{file}: train.sequence_parallel_size: needs DeepSpeed; say "
                "`launch: {deepspeed: zero2}`"
            )
        if train.launch.deepspeed:
            self._check_has("deepspeed")
        if size > 1 and self._shares_by_flash():
            self._check_has("flash-attn")

    def _shares_by_flash(self) -> bool:
        """Return whether devices share a sequence by flash-attn's kernels only, not by torch's."""
        path = paths.output(self.recipe.name, "base") / "config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        plain = config.get("model_type") in SHARED and not config.get("use_sliding_window")
        return self.train.use_varlen_attn or not plain

    def _check_has(self, package: str) -> None:
        if not toolchain.has("xtuner", package):
            raise UserError(
                f"{self.recipe.file}: train needs {package}, and {toolchain.python('xtuner')} has "
                f"none; install it there, or point MODELWRIGHT_TOOLCHAIN_XTUNER at a Python that "
                f"has it"
            )

    def check_devices(self) -> None:
        """Refuse what this machine's devices cannot do."""
        if torchbuild.has_gpu() or pools.names():
            return
        if self.train.dtype != "float32":
            raise UserError(
                f"{self.recipe.file}: train.dtype: {self.train.dtype} needs a GPU and this machine "
                "has none; say float32, or train where there is one"
            )
        if self.train.method == "qlora" and not toolchain.has("xtuner", "bitsandbytes"):
            raise UserError(
                f"{self.recipe.file}: train.method: qlora needs a GPU, or bitsandbytes in the "
                "Python that MODELWRIGHT_TOOLCHAIN_XTUNER names, and here is neither; say lora, or "
                "train where there is one"
            )
