"""Take weights out of what training left: a checkpoint, or a directory of DeepSpeed's.

Imported by actions only: it loads numpy.  The names are those that xtuner's pth_to_hf gives.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..errors import UserError
from . import checkpoint, merging, rounding, tying, zero
from .rounding import FLOATS
from .shards import Output, copied
from .tensors import Tensor, read
from .weights import Model

PREFIX = "llm."
# PEFT's own words in the names of parameters: the adapter's name, and its wrappers.
_ADAPTER = re.compile(r"(\.modules_to_save)?\.default(?=\.|$)|(?<=lora_magnitude_vector)\.weight$")


def load(path: Path) -> dict[str, Tensor]:
    """Return the parameters of the language model in a checkpoint, by their names in it.

    Raises:
        UserError: the checkpoint is damaged or holds no such parameters.
    """
    if path.is_dir():
        found = zero.load(path)
    else:
        content = checkpoint.load(path)
        inner = content.get("state_dict", content) if isinstance(content, Mapping) else content
        found = checkpoint.tensors(inner, path)
    named = {
        name.removeprefix(PREFIX): replace(tensor, name=name.removeprefix(PREFIX))
        for name, tensor in found.items()
        if name.startswith(PREFIX)
    }
    if not named:
        raise UserError(f"{path}: no parameter called {PREFIX}...; did xtuner train this?")
    return named


def adapter(found: Mapping[str, Tensor], bias: str) -> list[Output]:
    """Return an adapter's tensors, in float16 as xtuner writes them.

    Args:
        bias: which biases were trained, as LoraConfig has it.
    """
    words = ("lora_", ".modules_to_save.default", *(["bias"] if bias != "none" else []))
    kept = [name for name in found if any(word in name for word in words)]
    return [_halved(found[name], _clean(name)) for name in sorted(kept, key=_clean)]


def _clean(name: str) -> str:
    return re.sub(_ADAPTER, "", re.sub(_ADAPTER, "", name))


def whole(found: Mapping[str, Tensor], base: Model) -> list[Output]:
    """Return all weights of a fully tuned model, by the base's names and in its types.

    Raises:
        UserError: a weight is missing, extra or of another shape.
    """
    merging.check_base(base)
    allowed = {name for pair in tying.pairs(base) for name in pair}
    odd = next((name for name in found if name not in base.tensors and name not in allowed), None)
    if odd:
        raise UserError(f"{found[odd].where}: the base has no such weight; was it the base?")
    outputs = []
    for name, tensor in base.tensors.items():
        if name in found:
            outputs.append(merging.rounded(replace(found[name], name=name), tensor))
        elif name.endswith(".inv_freq"):  # computed, not trained: newer models do not save it
            outputs.append(copied(tensor))
        else:
            path = next(iter(found.values())).extents[0].path
            raise UserError(f"{path}: {name}: not in the checkpoint; was it trained on this base?")
    return outputs


def _halved(tensor: Tensor, name: str) -> Output:
    if tensor.dtype not in FLOATS:
        return copied(tensor, name)

    def fill(first: int, last: int, room: memoryview) -> None:
        raw = rounding.bits(read(tensor, first, last), tensor.dtype)
        halves = rounding.bits(room, "F16")
        rounding.narrow(rounding.widen(raw, tensor.dtype), "F16", halves)
        if rounding.has_odd(halves, "F16"):
            raise UserError(
                f"{tensor.where}: NaN, or too large for float16: training diverged; take an "
                "earlier checkpoint"
            )

    return Output(name, "F16", tensor.shape, fill)
