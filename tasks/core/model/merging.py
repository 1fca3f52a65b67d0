"""Add an adapter to a base, tensor by tensor: W + scale * (B @ A) in float32, rounded once.

Imported by actions only: it loads numpy.  DoRA scales the sum so that each output has the length
that was learned (https://arxiv.org/abs/2402.09353); the rest is as PEFT's layers have it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import UserError
from . import rounding, shards
from .lora import Adapter, Factors
from .onethread import NDArray, np
from .rounding import FLOATS, Floats
from .shards import Output
from .tensors import Tensor, read
from .weights import Model

# So many elements are worked on at a time that they stay in a processor's own cache.
BLOCK = 1 << 17
# Where the embedding and the output head are, by the names of the families that there are.
TIED = (
    ("model.embed_tokens.weight", "lm_head.weight"),
    ("model.tok_embeddings.weight", "output.weight"),
    ("transformer.wte.weight", "lm_head.weight"),
    ("transformer.embedding.word_embeddings.weight", "transformer.output_layer.weight"),
    ("gpt_neox.embed_in.weight", "embed_out.weight"),
)
# Models of GPT-2's kind keep linear layers transposed.
TRANSPOSED = frozenset({"gpt2", "imagegpt", "openai-gpt", "decision_transformer"})
QUANTIZED = (".quant_state.", ".absmax", ".quant_map", ".qweight", ".weight_scale", ".SCB")


@dataclass(frozen=True)
class Plan:
    """What a merged model consists of.

    Attributes:
        outputs: its tensors, in the base's order.
        untied: whether embedding and head were one tensor and now differ.
    """

    outputs: list[Output]
    untied: bool


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
    sources, untied = _sources(model, adapter)
    _check_names(sources, adapter)
    outputs = []
    for name, tensor in sources.items():
        module = name.removesuffix(".weight")
        replaced = adapter.replaced.get(name)
        if replaced is not None and replaced.shape != tensor.shape:
            raise _misfit(replaced, list(tensor.shape))
        start = replaced or tensor
        if module != name and module in adapter.factors:
            factors = adapter.factors[module]
            across = _is_transposed(module, tensor, factors, model, adapter)
            change = Change(tensor, start, factors, adapter.scale(module), across)
            outputs.append(Output(name, tensor.dtype, tensor.shape, change.rows))
        elif name.endswith(".bias") and name.removesuffix(".bias") in adapter.biases:
            outputs.append(_biased(tensor, start, adapter, name.removesuffix(".bias")))
        elif replaced is not None:
            outputs.append(rounded(replaced, tensor))
        else:
            outputs.append(shards.copied(tensor, name))
    return Plan(outputs, untied)


def rounded(source: Tensor, like: Tensor) -> Output:
    """Return the output that is a tensor in the place, and in the type, of the base's.

    Raises:
        UserError: the shapes differ, or a type cannot be rounded to the other.
    """
    if source.shape != like.shape:
        raise _misfit(source, list(like.shape))
    if source.dtype == like.dtype:
        return _checked(source, like)
    if source.dtype not in FLOATS or like.dtype not in FLOATS:
        raise UserError(f"{source.where}: {source.dtype} cannot become the base's {like.dtype}")

    def make(first: int, last: int) -> NDArray[Any]:
        numbers = rounding.widen(read(source, first, last), source.dtype)
        bits = rounding.narrow(numbers.copy(), like.dtype)
        return _sound(bits, like, first, last, source)

    return Output(like.name, like.dtype, like.shape, make)


@dataclass(frozen=True)
class Change:
    """How one weight of the base becomes the merged one.

    Attributes:
        base: the weight, whose type is kept.
        start: what is added to; the base's weight unless the adapter brings its own.
        scale: what B @ A is multiplied by.
        across: whether the weight is stored as inputs by outputs.
    """

    base: Tensor
    start: Tensor
    factors: Factors
    scale: float
    across: bool
    _lock: Any = field(default_factory=threading.Lock, compare=False)
    _norms: dict[str, Floats] = field(default_factory=dict, compare=False)

    def rows(self, first: int, last: int) -> NDArray[Any]:
        """Return some rows of the merged weight, in the base's type."""
        factor = self._factor() if self.factors.magnitude and self.across else None
        kind = np.uint32 if self.base.dtype == "F32" else np.uint16
        bits = np.empty((last - first, self.base.shape[1]), kind)

        def put(at: int, end: int, block: Floats) -> None:
            if factor is not None:
                block *= factor
            elif self.factors.magnitude:
                block *= self._row_factor(at, end, block)
            flat = rounding.narrow(block, self.base.dtype)
            bits[at - first : end - first] = flat.reshape(block.shape)

        self._each_block(first, last, put)
        return _sound(bits.reshape(-1), self.base, first, last, self.factors.a)

    def _each_block(self, first: int, last: int, use: Callable[[int, int, Floats], None]) -> None:
        """Call `use` with each block of rows of W + scale * (B @ A)."""
        columns = self.base.shape[1]
        raw = memoryview(read(self.start, first, last))
        row = len(raw) // (last - first)
        a, b = floats(self.factors.a), floats(self.factors.b)
        step = max(16, BLOCK // columns)
        room = np.empty((2, min(step, last - first), columns), np.float32)
        for at in range(first, last, step):
            end = min(last, at + step)
            piece = raw[(at - first) * row : (end - first) * row]
            weight, delta = room[0, : end - at], room[1, : end - at]
            rounding.widen(piece, self.start.dtype, weight)
            if self.across:
                np.matmul(a[:, at:end].T, b.T, out=delta)
            else:
                np.matmul(b[at:end], a, out=delta)
            delta *= np.float32(self.scale)
            weight += delta
            use(at, end, weight)

    def _row_factor(self, first: int, last: int, block: Floats) -> Floats:
        """Return magnitude / length of each output, which is a row of its own."""
        assert self.factors.magnitude
        length = np.sqrt(np.einsum("ij,ij->i", block, block, dtype=np.float64))
        return _ratio(floats(self.factors.magnitude)[first:last], length)[:, None]

    def _factor(self) -> Floats:
        """Return magnitude / length of each output, which is a column: all rows are read first."""
        assert self.factors.magnitude
        with self._lock:
            if "factor" not in self._norms:
                total = np.zeros(self.base.shape[1])

                def add(_: int, __: int, block: Floats) -> None:
                    np.add(total, np.einsum("ij,ij->j", block, block, dtype=np.float64), out=total)

                rows = self.base.shape[0]
                for at in range(0, rows, max(1, (1 << 22) // self.base.shape[1])):
                    end = min(rows, at + max(1, (1 << 22) // self.base.shape[1]))
                    self._each_block(at, end, add)
                magnitude = floats(self.factors.magnitude)
                self._norms["factor"] = _ratio(magnitude, np.sqrt(total))
        return self._norms["factor"]


@functools.lru_cache(maxsize=12)
def floats(tensor: Tensor) -> Floats:
    """Return a tensor of an adapter as float32; the last few are kept, as all rows need them.

    Raises:
        UserError: it holds NaN or infinity, or is no tensor of floats.
    """
    if tensor.dtype not in FLOATS:
        raise UserError(f"{tensor.where}: {tensor.dtype} is no type of an adapter")
    found = rounding.widen(read(tensor), tensor.dtype)
    if not np.isfinite(found).all():
        raise UserError(
            f"{tensor.where}: holds NaN or infinity: training diverged; take an earlier checkpoint"
        )
    return found.reshape(tensor.shape)


def _ratio(magnitude: Floats, length: NDArray[np.float64]) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(magnitude.reshape(-1) / length, np.float32)


def _sound(bits: NDArray[Any], base: Tensor, first: int, last: int, source: Tensor) -> NDArray[Any]:
    """Return the bits, unless there is a NaN or infinity among them that the base has not."""
    if rounding.has_odd(bits, base.dtype):
        before = rounding.odd(read(base, first, last), base.dtype)
        if (rounding.odd(bits.tobytes(), base.dtype) & ~before).any():
            raise UserError(
                f"{source.where}: makes {base.name} NaN or infinite in {base.dtype}: training "
                "diverged, or the numbers are too large for that type"
            )
    return bits


def _checked(source: Tensor, like: Tensor) -> Output:
    """Return the output that is a tensor as it is, once its numbers are found sound."""
    if source.dtype not in FLOATS:
        return shards.copied(source, like.name)
    kind = np.uint32 if source.dtype == "F32" else np.uint16

    def make(first: int, last: int) -> NDArray[Any]:
        bits = np.frombuffer(read(source, first, last), kind)
        return _sound(bits, like, first, last, source)

    return Output(like.name, like.dtype, like.shape, make)


def _biased(tensor: Tensor, start: Tensor, adapter: Adapter, module: str) -> Output:
    added = adapter.biases[module]
    if added.shape != tensor.shape:
        raise _misfit(added, list(tensor.shape))

    def make(first: int, last: int) -> NDArray[Any]:
        numbers = rounding.widen(read(start, first, last), start.dtype).copy()
        numbers += floats(added)[first:last] * np.float32(adapter.scale(module))
        return _sound(rounding.narrow(numbers, tensor.dtype), tensor, first, last, added)

    return Output(tensor.name, tensor.dtype, tensor.shape, make)


def _sources(model: Model, adapter: Adapter) -> tuple[dict[str, Tensor], bool]:
    """Return the tensors to start from; a tied pair is parted where the adapter changes one."""
    sources = dict(model.tensors)
    if not model.config.get("tie_word_embeddings", False):
        return sources, False
    changed = {f"{module}.weight" for module in adapter.factors} | set(adapter.replaced)
    for embedding, head in TIED:
        if embedding in sources and changed & {embedding, head}:
            sources.setdefault(head, Tensor(head, *_rest(sources[embedding])))
            return sources, True
    return sources, False


def _rest(tensor: Tensor) -> tuple[str, tuple[int, ...], Any]:
    return tensor.dtype, tensor.shape, tensor.extents


def _check_names(sources: Mapping[str, Tensor], adapter: Adapter) -> None:
    wanted = [*(f"{module}.weight" for module in adapter.factors), *adapter.replaced]
    wanted += [f"{module}.bias" for module in adapter.biases]
    odd = next((name for name in wanted if name not in sources), None)
    if odd:
        raise UserError(
            f"{adapter.folder}: {odd}: the base has no such tensor; the adapter was trained for "
            f"another model ({adapter.config.get('base_model_name_or_path')})"
        )


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
