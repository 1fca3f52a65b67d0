"""Start one of xtuner's tools in this interpreter.

    launch.py train|pth_to_hf|merge ARGUMENTS...

It runs inside the xtuner toolchain and stands in for xtuner's console script, which starts a second
process and exits 0 whatever that one does.  Nothing that is installed is changed; what xtuner 0.2.0
needs on this machine is prepared here, in this process alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import os
import runpy
import signal
import sys
import types
import warnings
from importlib.util import find_spec, spec_from_loader
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import training
else:  # a program of its own, beside which training.py lies
    import training

TOOLS = {
    "train": "xtuner.tools.train",
    "pth_to_hf": "xtuner.tools.model_converters.pth_to_hf",
    "merge": "xtuner.tools.model_converters.merge",
}
PR_SET_PDEATHSIG = 1


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
        options = training.prepare(
            sys.argv[1], argument("--work-dir"), argument("--deepspeed"), has_accelerator()
        )
        sys.argv += ["--cfg-options", *options] if options else []
    # transformers looks for garbage after every file of weights: a third of a second for all that
    # is imported by now, of which nothing is garbage.
    gc.freeze()
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
        quantize_on_processors()


def has_accelerator() -> bool:
    """Return whether there is a device of CUDA's, ROCm's or Ascend's."""
    import torch

    with contextlib.suppress(ImportError):
        importlib.import_module("torch_npu")
    npu = getattr(torch, "npu", None)
    return bool(torch.cuda.is_available() or (npu and npu.is_available()))


def quantize_on_processors() -> None:
    """Let bitsandbytes work where there is no device, as it does from 0.46 on.

    transformers 4.48 refuses, as earlier ones needed an extension of Intel's for that.
    """
    bits: Any = importlib.import_module("transformers.integrations.bitsandbytes")
    bits._validate_bnb_multi_backend_availability = lambda raise_exception: True


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


if __name__ == "__main__":
    main()
