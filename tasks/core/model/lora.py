"""Read a LoRA adapter of PEFT's, whoever trained it: settings, and which tensor changes what."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import checkpoint, safetensors
from .peft import CONFIG, PICKLED, WEIGHTS
from .tensors import Tensor

PREFIX = "base_model.model."

_FACTOR = re.compile(
    r"(?P<module>.+)\."
    r"(?P<part>lora_(?:A|B|embedding_A|embedding_B|magnitude_vector))(?:\.default)?"
    r"(?P<bias>\.bias)?(?:\.weight)?"
)
# Wrappers of PEFT's modules, which the merged model does not have.  Where parameters are saved as
# they are called in training, the adapter's own name stands among them.
_WRAPPED = re.compile(r"\.(base_layer|modules_to_save)(\.default)?(?=\.)")
# How PEFT looks for a module that a pattern is for.
_ENDING = r"(.*\.)?({})$"
# Their adapters are more than B @ A, or belong to a base that was changed when training started.
_NOT_PLAIN = (
    "use_qalora",
    "use_bdlora",
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "monteclora_config",
    "layer_replication",
    "megatron_config",
    "target_parameters",
    "trainable_token_indices",
)
_CHANGED_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga", "mica")


@dataclass(frozen=True)
class Factors:
    """What LoRA adds to one module: B @ A, and for DoRA the magnitude of each output.

    Attributes:
        module: what the adapter calls it, which is what its patterns are for.
    """

    module: str
    a: Tensor
    b: Tensor
    magnitude: Tensor | None
    is_embedding: bool

    @property
    def rank(self) -> int:
        """The rows of A."""
        return self.a.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of B @ A: outputs, inputs."""
        return self.b.shape[0], self.a.shape[1]


@dataclass(frozen=True)
class Adapter:
    """An adapter: what it adds to modules, which tensors it replaces.

    Attributes:
        folder: where it lies, for messages.
        config: what adapter_config.json holds.
        factors: by module, named as the base names it.
        replaced: by the base's tensor: trained biases, and the modules of `modules_to_save`.
        biases: by module: what `lora_bias` adds to the module's bias.
    """

    folder: Path
    config: Mapping[str, Any]
    factors: Mapping[str, Factors]
    replaced: Mapping[str, Tensor]
    biases: Mapping[str, Tensor]

    @property
    def changed(self) -> list[str]:
        """The tensors of the base that it changes."""
        weights = (f"{module}.weight" for module in self.factors)
        biases = (f"{module}.bias" for module in self.biases)
        return list(dict.fromkeys((*weights, *self.replaced, *biases)))

    def renamed(self, rename: Callable[[str], str]) -> Adapter:
        """Return the adapter for a base that calls its modules otherwise."""
        return replace(
            self,
            factors={rename(module): each for module, each in self.factors.items()},
            replaced={rename(name): each for name, each in self.replaced.items()},
            biases={rename(module): each for module, each in self.biases.items()},
        )

    def scale(self, module: str) -> float:
        """Return what B @ A is multiplied by: alpha / r, or alpha / sqrt(r) for rsLoRA."""
        named, rank = self.factors[module].module, self.factors[module].rank
        alpha = float(self._pattern("alpha_pattern", named, self.config.get("lora_alpha", 8)))
        return alpha / sqrt(rank) if self.config.get("use_rslora") else alpha / rank

    def _pattern(self, name: str, module: str, default: Any) -> Any:
        """Return the first value whose pattern is the end of a module's name, as PEFT does it."""
        for pattern, value in (self.config.get(name) or {}).items():
            if re.match(_ENDING.format(pattern), module):
                return value
        return default

    def check_ranks(self) -> None:
        """Refuse factors of another rank than the settings say.

        Raises:
            UserError: with the module's name.
        """
        for module, factors in self.factors.items():
            rank = self._pattern("rank_pattern", module, self.config.get("r"))
            if factors.rank != rank or factors.b.shape[1] != rank:
                raise UserError(
                    f"{factors.a.where}: rank {factors.rank} and {factors.b.shape[1]}, but "
                    f"{CONFIG} says {rank}; the two files belong to different adapters"
                )


def read(folder: Path) -> Adapter:
    """Return the adapter in a folder.

    Raises:
        UserError: files are missing or damaged, or the adapter is of a kind that cannot be merged.
    """
    config = read_config(folder / CONFIG)
    found = tensors(folder)
    parts: dict[str, dict[str, Tensor]] = {}
    replaced, biases = {}, {}
    for key, tensor in found.items():
        name = key.removeprefix(PREFIX)
        factor = _FACTOR.fullmatch(name)
        if ".original_module." in name:
            continue
        if not factor:
            name = _WRAPPED.sub("", name)
            replaced[name] = replace(tensor, name=name)
        elif factor["bias"] and factor["part"] == "lora_B":
            biases[factor["module"]] = tensor
        else:
            parts.setdefault(factor["module"], {})[factor["part"]] = tensor
    factors = {module: _factors(folder, module, each) for module, each in parts.items()}
    adapter = Adapter(folder, config, factors, replaced, biases)
    adapter.check_ranks()
    return adapter


def read_config(path: Path) -> Mapping[str, Any]:
    """Return the settings of a plain LoRA adapter.

    Raises:
        UserError: there are none, they are of another method, or make no sense.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        method = str(config.get("peft_type", "")).rpartition(".")[2].upper()
        start = str(config.get("init_lora_weights", True)).lower()
    except FileNotFoundError:
        raise UserError(f"{path.parent}: no {CONFIG}; is this the folder of an adapter?") from None
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: no settings of an adapter ({error}); fetch it again") from None
    odd = [name for name in _NOT_PLAIN if config.get(name)]
    if method != "LORA" or odd:
        raise UserError(f"{path}: {odd[0] if odd else method or 'no peft_type'}: only plain LoRA, "
                        "rsLoRA and DoRA can be merged; merge it with PEFT")  # fmt: skip
    if start.startswith(_CHANGED_BASE):
        raise UserError(
            f"{path}: init_lora_weights: {start} changed the base when training started; save the "
            "adapter with PEFT's path_initial_model_for_weight_conversion"
        )
    _check_numbers(path, config)
    return dict(config)


def _check_numbers(path: Path, config: Mapping[str, Any]) -> None:
    """Refuse ranks and alphas that nothing can be computed with."""
    for key, name, least in (
        ("r", "rank_pattern", 1),
        ("lora_alpha", "alpha_pattern", -sys.float_info.max),
    ):
        patterns = config.get(name) or {}
        if not isinstance(patterns, dict):
            raise UserError(f"{path}: {name} should be a mapping; fetch the adapter again")
        numbers = {f"{name}: {pattern}": value for pattern, value in patterns.items()}
        for where, value in {**numbers, key: config.get(key, 1)}.items():
            # Neither NaN nor infinity is between two numbers.
            if type(value) not in (int, float) or not least <= value <= sys.float_info.max:
                raise UserError(
                    f"{path}: {where}: {value!r} is no number that makes sense there; "
                    "fetch the adapter again"
                )
        for pattern in patterns:
            _check_pattern(f"{path}: {name}", pattern)


def _check_pattern(where: str, pattern: str) -> None:
    try:
        re.compile(_ENDING.format(pattern))
    except (re.error, OverflowError, RecursionError):
        raise UserError(
            f"{where}: '{pattern}' is no regular expression; fetch the adapter again"
        ) from None


def tensors(folder: Path) -> dict[str, Tensor]:
    """Return an adapter's tensors by their names.

    Raises:
        UserError: there are none, or the file is damaged.
    """
    if (folder / WEIGHTS).is_file():
        found = dict(safetensors.read(folder / WEIGHTS).tensors)
    elif (folder / PICKLED).is_file():
        found = checkpoint.tensors(checkpoint.load(folder / PICKLED), folder / PICKLED)
    else:
        raise UserError(f"{folder}: no {WEIGHTS}; is this the folder of an adapter?")
    if not found:
        raise UserError(f"{folder}: the adapter holds no tensor; train or fetch it again")
    return found


def _factors(folder: Path, module: str, parts: Mapping[str, Tensor]) -> Factors:
    prefix = "lora_embedding_" if "lora_embedding_A" in parts else "lora_"
    missing = [f"{prefix}{x}" for x in "AB" if f"{prefix}{x}" not in parts]
    if missing:
        raise UserError(f"{folder}: {module}: no {missing[0]}; the adapter is not whole")
    a, b = parts[f"{prefix}A"], parts[f"{prefix}B"]
    for tensor in (a, b):
        if len(tensor.shape) != 2:
            raise UserError(
                f"{tensor.where}: shape {list(tensor.shape)}: only linear layers and embeddings "
                "can be merged; merge it with PEFT"
            )
    return Factors(module, a, b, parts.get("lora_magnitude_vector"), prefix == "lora_embedding_")
