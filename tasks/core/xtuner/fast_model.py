"""xtuner's model, fed with rows of whole conversations and computed with less.

A config names it instead of SupervisedFinetune; tasks/core/preset/ decides when.  What it leaves
out: the float32 copy of all weights that PEFT's preparation for 4-bit training makes, the copies
that dropout makes, attention between conversations, padding, and the logits.

Part of the programs that run inside the xtuner toolchain.
"""

from __future__ import annotations

import importlib
import importlib.util
import types
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from mmengine import print_log
from mmengine.runner import load_checkpoint
from peft import get_peft_model
from torch import nn
from torch.utils.checkpoint import checkpoint
from xtuner.model import SupervisedFinetune
from xtuner.model.utils import find_all_linear_names

if TYPE_CHECKING:
    from . import fast_attention, fast_lora, fast_loss, fast_zero
else:
    import fast_attention
    import fast_lora
    import fast_loss
    import fast_zero

# Whose normalisation, rotation and gates the fused kernels compute exactly as transformers has it.
FUSED = ("llama", "mistral", "qwen2")


class FastFinetune(SupervisedFinetune):  # type: ignore[misc]  # xtuner is untyped
    """SupervisedFinetune for batches of fast_data.collate.

    Args:
        checkpoint_layers: how many layers keep only their input and compute the rest twice.
        whole_layers: how many stay whole from forward to backward where devices share them.
    """

    llm: Any
    switched: bool | None = None

    def __init__(
        self, *args: Any, checkpoint_layers: int = 0, whole_layers: int = 1, **options: Any
    ) -> None:
        fast_attention.install()
        super().__init__(*args, use_activation_checkpointing=False, **options)
        if self.use_lora:
            said = f"{fast_lora.quicken(self.llm)} layers with adapters computed without copies"
            print_log(said, "current")
        fast_attention.mask_nothing(self.llm)
        fuse(self.llm)
        recompute(self.llm, checkpoint_layers)
        if zero3():
            gather_layers(self.llm)
            if fast_zero.share(decoder_layers(self.llm), whole_layers):
                said = f"frozen layers copied from device to device, {whole_layers} kept whole"
                print_log(said, "current")

    def build_llm_from_cfg(self, llm_cfg: Any, *rest: Any) -> Any:
        """Load the weights straight to the device, as they are in their files."""
        if torch.cuda.is_available():
            # Rows differ in length: without this, memory falls into pieces that fit no other row.
            torch.cuda.memory._set_allocator_settings("expandable_segments:True")
            if not zero3():
                llm_cfg.device_map = f"cuda:{torch.cuda.current_device()}"
        llm_cfg.attn_implementation = "sdpa"
        return super().build_llm_from_cfg(llm_cfg, *rest)

    def _prepare_for_lora(self, peft_model: Any = None, *rest: Any) -> None:
        """Add the adapter, in float32; the frozen weights stay as they are."""
        self.llm.requires_grad_(False)
        if self.lora.target_modules is None:
            self.lora.target_modules = find_all_linear_names(self.llm)
        self.llm = get_peft_model(self.llm, self.lora)
        if peft_model is not None:
            load_checkpoint(self, peft_model)

    def compute_loss(self, data: dict[str, Any], data_samples: Any = None) -> dict[str, Any]:
        """Return the loss of a row, each token with its own weight."""
        causal = self.llm.get_base_model() if self.use_lora else self.llm
        fast_attention.lay(fast_attention.Lengths(data["ends"], data["spans"]))
        hidden = causal.model(
            input_ids=data["input_ids"], position_ids=data["position_ids"], use_cache=False
        ).last_hidden_state[0]
        head = causal.get_output_embeddings().weight
        found = fast_loss.loss(hidden[data["learned"]], head, data["targets"], 1 / data["counts"])
        return {"loss": found}

    def train(self, mode: bool = True) -> Any:
        """Switch to training; mmengine asks in every iteration, of thousands of modules.

        The model itself is asked too, as it may have been switched alone.
        """
        if self.switched == mode == self.llm.training:
            return self
        self.switched = mode
        return super().train(mode)


def zero3() -> bool:
    """Return whether DeepSpeed holds each weight in pieces."""
    from transformers.integrations import is_deepspeed_zero3_enabled

    return bool(is_deepspeed_zero3_enabled())


def fuse(llm: nn.Module) -> None:
    """Compute normalisation, rotation and gates in one kernel each, where Liger's are installed."""
    kind = llm.config.model_type
    if (
        kind not in FUSED
        or not torch.cuda.is_available()
        or not importlib.util.find_spec("liger_kernel")
    ):
        return
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction
    from liger_kernel.ops.rope import LigerRopeFunction
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    def norm(self: Any, x: torch.Tensor) -> Any:
        return LigerRMSNormFunction.apply(x, self.weight, self.variance_epsilon, 0.0, "llama", True)

    def gate(self: Any, x: torch.Tensor) -> Any:
        return self.down_proj(LigerSiLUMulFunction.apply(self.gate_proj(x), self.up_proj(x)))

    def rotate(q: Any, k: Any, cos: Any, sin: Any, position_ids: Any = None, axis: int = 1) -> Any:
        return LigerRopeFunction.apply(q, k, cos, sin, position_ids, axis)

    for module in llm.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = types.MethodType(norm, module)
        elif type(module).__name__.endswith("MLP") and llm.config.hidden_act == "silu":
            module.forward = types.MethodType(gate, module)
    modeling: Any = importlib.import_module(f"transformers.models.{kind}.modeling_{kind}")
    modeling.apply_rotary_pos_emb = rotate
    print_log("normalisation, rotation and gates computed by Liger kernels", "current")


def gather_layers(llm: Any) -> None:
    """Let DeepSpeed gather the weights of a whole layer when the layer is called.

    Left to itself it gathers those of each module that is called, and of adapters we call none.
    """
    from deepspeed.utils import set_z3_leaf_modules

    set_z3_leaf_modules(llm, [type(decoder_layers(llm)[0])])
    # The gradient of its input tells that a layer is done; the first one's has none otherwise.
    llm.enable_input_require_grads()


def decoder_layers(llm: nn.Module) -> list[nn.Module]:
    """Return the layers that make up a model."""
    return [m for m in llm.modules() if type(m).__name__.endswith("DecoderLayer")]


def recompute(llm: nn.Module, count: int) -> None:
    """Let the first layers keep only their input."""
    for layer in decoder_layers(llm)[:count]:
        inner = layer.forward

        def forward(
            *args: Any, inner: Any = inner, layer: nn.Module = layer, **options: Any
        ) -> Any:
            if not layer.training:
                return inner(*args, **options)
            return checkpoint(partial(inner, **options), *args, use_reentrant=False)

        layer.forward = forward
