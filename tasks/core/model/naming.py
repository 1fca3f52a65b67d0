"""Find an adapter's tensors in a base that calls them otherwise.

transformers 4.52 moved the language model of models that see or hear into `model`, and took its
head out (https://github.com/huggingface/transformers/pull/37033).  Files keep the names of before:
the classes map them while they load and save (in 4.57 `_checkpoint_conversion_mapping` of their
modeling_*.py, in 5.23 conversion_mapping.py).  PEFT saves the names of the class in training, and
maps old ones while it loads (https://github.com/huggingface/peft/pull/2574).

The tables here are those mappings, by config.json's `model_type`.  A name that fits as it is stays;
otherwise all of an adapter's names follow one table, in one direction, or the adapter is refused.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from functools import partial

from ..errors import UserError
from . import tying
from .lora import Adapter
from .weights import Model

# How names begin in one version and in another; the first that fits is taken.
Table = tuple[tuple[str, str], ...]

_WITHIN: Table = (
    ("language_model.model", "model.language_model"),
    ("language_model.lm_head", "lm_head"),
)
_TOWERS = ("vision_tower", "image_tower", "video_tower")
_OTHERS = ("vision_model", "audio_tower", "multi_modal_projector", "vision_embed_tokens")
_LLAVA = (
    (*_WITHIN, *((part, f"model.{part}") for part in (*_TOWERS, *_OTHERS))),
    # In 5.23, towers of CLIP and SigLIP have no `vision_model` within.
    (
        *_WITHIN,
        *((f"{tower}.vision_model", f"model.{tower}") for tower in _TOWERS),
        *((part, f"model.{part}") for part in _OTHERS),
    ),
)
_QWEN = ((("visual", "model.visual"), ("model", "model.language_model")),)
# Classes of the language model alone, trained on a file of the whole: Qwen3_5ForCausalLM and
# Gemma3nForCausalLM in 5.23, Gemma3ForCausalLM in 4.57.
_ALONE = ((("model", "model.language_model"),),)
_GEMMA = ((("model", "language_model.model"), ("lm_head", "language_model.lm_head")),)

TABLES: dict[str, tuple[Table, ...]] = {
    **dict.fromkeys(
        (
            "aria", "aya_vision", "fuyu", "got_ocr2", "internvl", "llava", "llava_next",
            "llava_next_video", "llava_onevision", "mistral3", "mllama", "paligemma",
            "qwen2_audio", "video_llava", "vipllava", "voxtral",
        ),
        _LLAVA,
    ),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl"), _QWEN),
    **dict.fromkeys(("gemma3n", "qwen3_5", "qwen3_5_moe"), _ALONE),
    "gemma3": (*_LLAVA, *_GEMMA),
}  # fmt: skip


def fitted(adapter: Adapter, model: Model) -> Adapter:
    """Return an adapter by the base's names.

    Raises:
        UserError: the base lacks a tensor by every name, or has two that one may mean.
    """
    there = model.tensors.keys() | {head for _, head in tying.pairs(model)}
    if there.issuperset(adapter.changed):
        return adapter
    ways = list(_ways(str(model.config.get("model_type"))))
    found = {tuple(renamed(name, way) for name in adapter.changed): way for way in ways}
    fitting = {
        names: way
        for names, way in found.items()
        if there.issuperset(names) and len(set(names)) == len(names)
    }
    if len(fitting) > 1:
        raise _ambiguous(adapter, fitting)
    if not fitting:
        raise _absent(adapter, ways, there)
    return adapter.renamed(partial(renamed, way=next(iter(fitting.values()))))


def renamed(name: str, way: Table) -> str:
    """Return what a table makes of a name."""
    for old, new in way:
        if f"{name}.".startswith(f"{old}."):
            return f"{new}{name[len(old) :]}"
    return name


def _ways(kind: str) -> Iterator[Table]:
    for table in TABLES.get(kind, ()):
        yield table
        yield tuple((new, old) for old, new in table)


def _ambiguous(adapter: Adapter, fitting: Iterable[tuple[str, ...]]) -> UserError:
    names = next(each for each in zip(*fitting, strict=True) if len(set(each)) > 1)
    return UserError(
        f"{adapter.folder}: {' and '.join(names)}: the base has both, and the adapter may mean "
        "either; merge it with PEFT"
    )


def _absent(adapter: Adapter, ways: Iterable[Table], there: Container[str]) -> UserError:
    """Return what is wrong by the names that come nearest."""
    lacking = {
        way: [name for name in adapter.changed if renamed(name, way) not in there]
        for way in ((), *ways)
    }
    way = min(filter(lacking.get, lacking), key=lambda each: len(lacking[each]))
    name = lacking[way][0]
    other, trained = renamed(name, way), adapter.config.get("base_model_name_or_path", "not told")
    nor = f", nor {other}" if other != name else ""
    return UserError(
        f"{adapter.folder}: {name}: the base has no such tensor{nor}; name the base that the "
        f"adapter was trained on ({trained})"
    )
