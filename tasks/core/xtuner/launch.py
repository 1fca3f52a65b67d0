"""Start one of xtuner's tools in this interpreter.

    launch.py train|pth_to_hf|merge ARGUMENTS...

It runs inside the xtuner toolchain and stands in for xtuner's console script, which starts a second
process and exits 0 whatever that one does.  Nothing that is installed is changed; what xtuner 0.2.0
needs on this machine is prepared here, in this process alone.
"""

from __future__ import annotations

import importlib.util
import os
import runpy
import sys
import types
import warnings
from pathlib import Path
from typing import Any

TOOLS = {
    "train": "xtuner.tools.train",
    "pth_to_hf": "xtuner.tools.model_converters.pth_to_hf",
    "merge": "xtuner.tools.model_converters.merge",
}
# What a checkpoint may not hold, so that equal trainings leave equal checkpoints.
UNREPEATABLE = ("time", "experiment_name", "cfg", "last_ckpt")
TIMINGS = ("time", "data_time", "tflops", "tokens_per_sec", "memory", "eta")


def main() -> None:
    """Run the tool; its exit status is ours."""
    tool = sys.argv[1]
    sys.argv = [f"xtuner {tool}", *sys.argv[2:]]
    # The script's own folder must not shadow packages: it is called xtuner, too.
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).parent]
    prepare()
    if tool == "train":
        prepare_training()
    runpy.run_module(TOOLS[tool], run_name="__main__")


def prepare() -> None:
    """Make xtuner importable here: torchvision may be absent, and so may the GPU."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    if importlib.util.find_spec("torchvision") is None:
        stand_in_for_torchvision()
    import torch

    trust_nobody_unasked()
    if not torch.cuda.is_available():
        cpu: Any = torch.cpu
        cpu.is_bf16_supported = lambda: True  # xtuner asks; torch.cpu has no such function
        torch.cuda.set_device = lambda device: None  # mmengine calls it on every machine


def trust_nobody_unasked() -> None:
    """Run no code that came with a model unless the recipe says so; xtuner's merge always would."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    trusted = os.environ.get("XTUNER_TRUST_REMOTE_CODE") == "1"
    for auto in (AutoConfig, AutoModelForCausalLM, AutoTokenizer):
        original = auto.from_pretrained.__func__

        def load(cls: Any, /, *args: Any, original: Any = original, **options: Any) -> Any:
            return original(cls, *args, **{**options, "trust_remote_code": trusted})

        auto.from_pretrained = classmethod(load)


def stand_in_for_torchvision() -> None:
    """Offer the two names that xtuner's image datasets import; they are never used for text."""
    vision, transforms, functional = (
        types.ModuleType(name)
        for name in (
            "torchvision",
            "torchvision.transforms",
            "torchvision.transforms.functional",
        )
    )
    functional.InterpolationMode = None  # type: ignore[attr-defined]
    transforms.functional = functional  # type: ignore[attr-defined]
    vision.transforms = transforms  # type: ignore[attr-defined]
    vision.__version__ = "none"  # type: ignore[attr-defined]
    # Others look for the package with find_spec, which wants a spec.
    for module in (vision, transforms, functional):
        module.__spec__ = importlib.util.spec_from_loader(module.__name__, loader=None)
        sys.modules[module.__name__] = module


def prepare_training() -> None:
    """Keep datasets clean, warm-up effective and checkpoints repeatable."""
    import datasets

    # map() would write its cache into the dataset that it reads.
    datasets.disable_caching()
    widen_warm_up()
    make_checkpoints_repeatable()


def widen_warm_up() -> None:
    """Let a warm-up in epochs last two iterations at least.

    mmengine turns its end into iterations by cutting off: with one iteration the learning rate
    stays at `start_factor` for ever, with none it refuses to start.
    """
    from mmengine.optim import LinearLR

    original = LinearLR.build_iter_from_epoch.__func__

    def build(
        cls: Any, *args: Any, begin: Any = 0, end: Any, epoch_length: int, **rest: Any
    ) -> Any:
        least = (int(begin * epoch_length) + 2) / epoch_length
        return original(
            cls, *args, begin=begin, end=max(end, least), epoch_length=epoch_length, **rest
        )

    LinearLR.build_iter_from_epoch = classmethod(build)  # type: ignore[arg-type]  # `/` and `cls`


def make_checkpoints_repeatable() -> None:
    """Leave times and paths out of what CheckpointHook saves, and code: only plain values stay.

    mmengine pickles its HistoryBuffer objects, which torch rightly refuses to load; a list of their
    values and counts says the same.
    """
    from mmengine.hooks import CheckpointHook
    from mmengine.logging import HistoryBuffer, MessageHub

    def strip(self: Any, runner: Any, checkpoint: dict[str, Any]) -> None:
        for name in UNREPEATABLE:
            checkpoint["meta"].pop(name, None)
        hub = checkpoint["message_hub"]
        for part in ("log_scalars", "runtime_info", "resumed_keys"):
            for name in [n for n in hub[part] if n.split("/")[-1] in UNREPEATABLE + TIMINGS]:
                del hub[part][name]
        scalars = hub["log_scalars"].items()
        hub["log_scalars"] = {name: [part.tolist() for part in s.data] for name, s in scalars}
        for part in checkpoint:
            checkpoint[part] = unshared(checkpoint[part])

    original = MessageHub.load_state_dict

    def load(self: Any, state: dict[str, Any]) -> None:
        scalars = {n: HistoryBuffer(*parts) for n, parts in state["log_scalars"].items()}
        original(self, {**state, "log_scalars": scalars})

    CheckpointHook.before_save_checkpoint = strip
    MessageHub.load_state_dict = load


def unshared(value: Any) -> Any:
    """Return a copy in which equal strings are one object and containers are each their own.

    A pickle says "as above" for the same object, and a resumed training shares other objects
    than an undisturbed one.
    """
    if isinstance(value, str):
        return sys.intern(value)
    if isinstance(value, dict):
        same = type(value)()
        same.update((unshared(key), unshared(inner)) for key, inner in value.items())
        if hasattr(value, "__dict__"):
            vars(same).update(unshared(vars(value)))  # torch keeps _metadata there
        return same
    if type(value) in (list, tuple):
        return type(value)(unshared(inner) for inner in value)
    return value


if __name__ == "__main__":
    main()
