"""Start one of xtuner's tools in this interpreter.

    launch.py train|pth_to_hf|merge ARGUMENTS...

It runs inside the xtuner toolchain and stands in for xtuner's console script, which starts a second
process and exits 0 whatever that one does.  Nothing that is installed is changed; what xtuner 0.2.0
needs on this machine is prepared here, in this process alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import runpy
import shutil
import signal
import sys
import types
import warnings
from importlib.util import find_spec, spec_from_loader
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import saving
else:  # a program of its own, beside which saving.py lies
    import saving

TOOLS = {
    "train": "xtuner.tools.train",
    "pth_to_hf": "xtuner.tools.model_converters.pth_to_hf",
    "merge": "xtuner.tools.model_converters.merge",
}
PR_SET_PDEATHSIG = 1
# Parameters that DeepSpeed gathers before their turn: a whole layer's; left to itself, part of one.
AHEAD = 500_000_000


def main() -> None:
    """Run the tool; its exit status is ours."""
    tool = sys.argv[1]
    sys.argv = [f"xtuner {tool}", *sys.argv[2:]]
    # The script's own folder must not shadow packages: it is called xtuner, too.
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != Path(__file__).parent]
    sys.path.append(str(Path(__file__).parent))  # last, for the fast_*.py that a config names
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_parent()
    prepare()
    if tool == "train":
        prepare_training(argument("--work-dir"), argument("--deepspeed"))
    runpy.run_module(TOOLS[tool], run_name="__main__")


def argument(name: str) -> str:
    """Return the value of an option of the command line, or nothing."""
    words = sys.argv
    return words[words.index(name) + 1] if name in words else ""


def end_with_parent() -> None:
    """Let the kernel kill this process when torchrun dies: it gives each a session of its own."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # In a container torchrun itself may be the first process.
    if os.getppid() == 1 and b"torch.distributed.run" not in Path("/proc/1/cmdline").read_bytes():
        sys.exit("torchrun is gone")


def prepare() -> None:
    """Make xtuner importable here: torchvision may be absent, and so may the GPU."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    if find_spec("torchvision") is None:
        stand_in_for_torchvision()
    import torch

    import_deepspeed_without_nvcc()
    trust_nobody_unasked()
    if not has_accelerator():
        cpu: Any = torch.cpu
        cpu.is_bf16_supported = lambda: True  # xtuner asks; torch.cpu has no such function
        torch.cuda.set_device = lambda device: None  # mmengine calls it on every machine


def has_accelerator() -> bool:
    """Return whether there is a device of CUDA's, ROCm's or Ascend's."""
    import torch

    with contextlib.suppress(ImportError):
        importlib.import_module("torch_npu")
    npu = getattr(torch, "npu", None)
    return bool(torch.cuda.is_available() or (npu and npu.is_available()))


def import_deepspeed_without_nvcc() -> None:
    """Import DeepSpeed where there are CUDA's devices and not its compiler.

    On import it asks nvcc, for each operator that it could compile, and fails where there is none;
    training needs no such operator.  While it is imported, and no longer, no device is in sight.
    """
    import torch
    from torch.utils import cpp_extension

    if not (torch.version.cuda and torch.cuda.is_available()) or not find_spec("deepspeed"):
        return
    if cpp_extension.CUDA_HOME and Path(cpp_extension.CUDA_HOME, "bin", "nvcc").is_file():
        return
    os.environ.setdefault("DS_ACCELERATOR", "cuda")  # it would take the processor for one
    original = torch.cuda.is_available
    torch.cuda.is_available = lambda: False
    try:
        importlib.import_module("deepspeed")
    finally:
        torch.cuda.is_available = original


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
        module.__spec__ = spec_from_loader(module.__name__, loader=None)
        sys.modules[module.__name__] = module


def prepare_training(folder: str, deepspeed: str) -> None:
    """Keep datasets clean, warm-up effective and checkpoints repeatable; go on where one ended.

    Args:
        folder: the work directory; its name stands for the training in each checkpoint.
        deepspeed: the name or path of DeepSpeed's settings, or nothing.
    """
    from mmengine.config import Config

    place, config = Path(folder), Config.fromfile(sys.argv[1])
    keep_rows_in(place / "datasets")
    widen_warm_up()
    sample_apart()
    owner = f"{place.name}, {steps(config, deepspeed)}"
    saving.prepare(owner)
    if deepspeed:
        saving.prepare_deepspeed(owner)
        settle_deepspeed()
    options = []
    newest = saving.newest(place, config.get("accumulative_counts", 1))
    if newest:
        options += ["resume=True", f"load_from={newest.absolute()}"]
    if not has_accelerator():
        options.append("env_cfg.dist_cfg.backend=gloo")
        train_on_processors(deepspeed)
    if options:
        sys.argv += ["--cfg-options", *options]


def steps(config: Any, deepspeed: str) -> str:
    """Return how a training steps.

    A preset chooses it by the devices: what was begun on some is not gone on with on others.
    """
    batch = f"{config.get('batch_size')} x {config.get('accumulative_counts')}"
    dtype = config.model.llm.get("torch_dtype")
    return f"batch {batch}, {dtype}, {Path(deepspeed).name or 'no DeepSpeed'}"


def keep_rows_in(folder: Path) -> None:
    """Let map() write where all nodes read: not into the dataset, nor into this node's own /tmp."""
    import datasets

    datasets.disable_caching()
    folder = folder.absolute()
    if os.environ.get("RANK", "0") == "0":
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    arrow: Any = importlib.import_module("datasets.arrow_dataset")
    arrow.get_temporary_cache_files_directory = lambda: str(folder)


def sample_apart() -> None:
    """Let the answers that are shown while it trains draw no random numbers of the training's."""
    import torch
    from xtuner.engine.hooks import EvaluateChatHook

    original = EvaluateChatHook._generate_samples

    def generate(self: Any, *args: Any, **options: Any) -> None:
        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices):
            original(self, *args, **options)

    EvaluateChatHook._generate_samples = generate


def train_on_processors(deepspeed: str) -> None:
    """Let processes without devices train together."""
    from mmengine.model import MMDistributedDataParallel

    original = MMDistributedDataParallel.__init__

    def build(self: Any, module: Any, device_ids: Any = None, **options: Any) -> None:
        original(self, module, device_ids=None, **options)

    MMDistributedDataParallel.__init__ = build
    if deepspeed:
        from deepspeed.comm import torch as communication

        # It would compile a faster sum for inference, which training never asks for.
        communication.build_shm_op = lambda: None


def settle_deepspeed() -> None:
    """Settle what DeepSpeed's settings leave open.

    The dtype is the config's, where xtuner takes the best that the device has.
    """
    import torch
    from mmengine.config import Config

    utils: Any = importlib.import_module("xtuner.tools.utils")
    dtype = Config.fromfile(sys.argv[1]).model.llm.get("torch_dtype")

    def settle(settings: dict[str, Any]) -> dict[str, Any]:
        zero = settings.get("zero_optimization", {})
        if zero.get("stage") == 3:
            zero.setdefault("stage3_prefetch_bucket_size", AHEAD)
        for name, meant in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
            part = settings.setdefault(name, {"enabled": False})
            if part.get("enabled", "auto") == "auto":
                part["enabled"] = dtype == meant
        return settings

    utils.auto_dtype_of_deepspeed_config = settle


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


if __name__ == "__main__":
    main()
