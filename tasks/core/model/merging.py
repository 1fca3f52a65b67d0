"""Say what a merged model consists of: which tensor of the base becomes what.

Imported by actions only: it loads numpy.  Here an adapter is found to fit a base, or not (by its
names in naming.py); the arithmetic is in change.py, the writing in shards.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import UserError
from . import naming, rounding, shards, tying
from .change import Change, check_sound, floats
from .lora import Adapter, Factors
from .onethread import np
from .rounding import FLOATS
from .shards import Output
from .tensors import Tensor, read, read_into
from .weights import Model

# Models of GPT-2's kind keep linear layers transposed.
TRANSPOSED = frozenset({"gpt2", "imagegpt", "openai-gpt", "decision_transformer"})
# What ChatGLM calls the number of its tokens.
PADDED = "padded_vocab_size"
QUANTIZED = (".quant_state.", ".absmax", ".quant_map", ".qweight", ".weight_scale", ".SCB")


@dataclass(frozen=True)
class Plan:
    """What a merged model consists of.

    Attributes:
        outputs: its tensors, in the base's order.
        untied: whether embedding and head may have been one tensor and now differ.
        tokens: how many tokens it has, where that is not the base's number.
    """

    outputs: list[Output]
    untied: bool
    tokens: int | None

    def changes(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return what its config.json says that the base's does not."""
        changes: dict[str, Any] = {tying.KEY: False} if self.untied else {}
        if self.tokens:
            changes["vocab_size"] = self.tokens
            if PADDED in config:
                changes[PADDED] = self.tokens
        return changes


def check_base(model: Model) -> None:
    """Refuse a base whose numbers cannot be added to.

    Raises:
        UserError: it is quantized.
    """
    method = (model.config.get("quantization_config") or {}).get("quant_method")
    odd = next((name for name in model.tensors if any(x in name for x in QUANTIZED)), None)
    if method or odd:
        raise UserError(
            f"{model.folder}: quantized weights ({method or odd}), to which nothing can be added; "
            "name the model that they were made from as `base`, in 16 or 32 bits"
        )


def plan(model: Model, adapter: Adapter) -> Plan:
    """Return the merged model of a base and an adapter.

    Raises:
        UserError: the adapter does not fit the base, or the base cannot be merged into.
    """
    check_base(model)
    adapter = naming.fitted(adapter, model)
    found, untied = _sources(model, adapter)
    sources = {name: _resized(tensor, adapter) for name, tensor in found.items()}
    tokens = _tokens(sources, adapter) if sources != found else None
    return Plan([_output(tensor, model, adapter) for tensor in sources.values()], untied, tokens)


def rounded(source: Tensor, like: Tensor) -> Output:
    """Return the output that is a tensor in the place, and in the type, of the base's.

    Raises:
        UserError: the shapes differ, or a type cannot be rounded to the other.
    """
    if source.shape != like.shape:
        raise _misfit(source, list(like.shape))
    if source.dtype != like.dtype and not {source.dtype, like.dtype} <= set(FLOATS):
        raise UserError(f"{source.where}: {source.dtype} cannot become the base's {like.dtype}")

    def fill(first: int, last: int, room: memoryview) -> None:
        if source.dtype == like.dtype:
            read_into(source, first, last, room)
        else:
            raw = rounding.bits(read(source, first, last), source.dtype)
            numbers = rounding.widen(raw, source.dtype)
            rounding.narrow(numbers, like.dtype, rounding.bits(room, like.dtype))
        if like.dtype in FLOATS:
            check_sound(room, like, first, last, source)

    return Output(like.name, like.dtype, like.shape, fill)


def _output(tensor: Tensor, model: Model, adapter: Adapter) -> Output:
    """Return what becomes of one tensor of the base."""
    module, _, kind = tensor.name.rpartition(".")
    replaced = adapter.replaced.get(tensor.name)
    if replaced is not None and replaced.shape != tensor.shape:
        raise _misfit(replaced, list(tensor.shape))
    if kind == "weight" and module in adapter.factors:
        factors = adapter.factors[module]
        across = _is_transposed(module, tensor, factors, model, adapter)
        change = Change(tensor, replaced or tensor, factors, adapter.scale(module), across)
        return Output(tensor.name, tensor.dtype, tensor.shape, change.fill)
    if kind == "bias" and module in adapter.biases:
        return _biased(tensor, replaced or tensor, adapter.biases[module], adapter.scale(module))
    return shards.copied(tensor) if replaced is None else rounded(replaced, tensor)


def _biased(tensor: Tensor, start: Tensor, added: Tensor, scale: float) -> Output:
    if added.shape != tensor.shape:
        raise _misfit(added, list(tensor.shape))

    def fill(first: int, last: int, room: memoryview) -> None:
        numbers = rounding.widen(rounding.bits(read(start, first, last), start.dtype), start.dtype)
        numbers += floats(added)[first:last] * np.float32(scale)
        rounding.narrow(numbers, tensor.dtype, rounding.bits(room, tensor.dtype))
        check_sound(room, tensor, first, last, added)

    return Output(tensor.name, tensor.dtype, tensor.shape, fill)


def _sources(model: Model, adapter: Adapter) -> tuple[dict[str, Tensor], bool]:
    """Return the tensors to start from; a tied pair is parted where the adapter changes one."""
    sources = dict(model.tensors)
    for embedding, head in tying.pairs(model):
        if {embedding, head}.intersection(adapter.changed):
            sources.setdefault(head, replace(sources[embedding], name=head))
            return sources, True
    return sources, False


def _resized(tensor: Tensor, adapter: Adapter) -> Tensor:
    """Return a tensor of the base with a row for each token that the adapter has."""
    new = adapter.replaced.get(tensor.name)
    if new is None or tensor.name not in tying.VOCABULARY or not new.elements:
        return tensor
    fits = new.shape == (new.rows, *tensor.shape[1:])
    return replace(tensor, shape=new.shape) if fits else tensor


def _tokens(sources: Mapping[str, Tensor], adapter: Adapter) -> int:
    """Return how many tokens there are when some were added for the training.

    Raises:
        UserError: embedding and head differ in it.
    """
    rows = {name: tensor.rows for name, tensor in sources.items() if name in tying.VOCABULARY}
    few, many = min(rows, key=rows.__getitem__), max(rows, key=rows.__getitem__)
    if rows[few] != rows[many]:
        raise UserError(
            f"{adapter.folder}: {many}: {rows[many]} tokens, {few}: {rows[few]}: the adapter has "
            "one of the two that tokens were added to; name as `base` the model with both resized"
        )
    return rows[many]


def _is_transposed(
    module: str, tensor: Tensor, factors: Factors, model: Model, adapter: Adapter
) -> bool:
    """Return whether a weight is stored as inputs by outputs, as embeddings and Conv1D are."""
    if tensor.dtype not in FLOATS:
        raise UserError(f"{tensor.where}: {tensor.dtype}: nothing can be added to it")
    outputs, inputs = factors.shape
    magnitude = factors.magnitude
    if magnitude is not None and magnitude.elements != outputs:
        raise _misfit(magnitude, [outputs])
    fits = {False: tensor.shape == (outputs, inputs), True: tensor.shape == (inputs, outputs)}
    said = factors.is_embedding or bool(adapter.config.get("fan_in_fan_out"))
    if model.config.get("model_type") in TRANSPOSED and not module.endswith("lm_head"):
        said = True
    if fits[said]:
        return said
    if fits[not said] and not factors.is_embedding:
        return not said
    raise UserError(
        f"{factors.b.where}: adds {outputs} x {inputs}, the base's {tensor.name} is "
        f"{' x '.join(map(str, tensor.shape))}; the adapter was trained for another model"
    )


def _misfit(tensor: Tensor, expected: list[int]) -> UserError:
    return UserError(
        f"{tensor.where}: shape {list(tensor.shape)}, the base has {expected}; the two do not "
        "belong together"
    )
