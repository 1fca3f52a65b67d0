"""What can be known of a base without its weights: for the recipe that `doit new` writes.

config.json and the tokenizer's files tell most; the catalogue of architectures tells the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .. import catalog
from ..catalog import Row
from ..errors import UserError
from ..image import versions
from ..model import modelfiles
from . import survey
from .survey import Place

# What tells xtuner's prompt templates apart in a chat template; the first with all its marks.
MARKS = (
    ("llama3_chat", ("<|start_header_id|>",)),
    ("gemma", ("<start_of_turn>",)),
    ("cohere_chat", ("<|START_OF_TURN_TOKEN|>",)),
    ("qwen_chat", ("<|im_start|>",)),
    ("phi3_chat", ("<|user|>", "<|end|>")),
    ("chatglm3", ("[gMASK]", "<|user|>")),
    ("zephyr", ("<|user|>", "eos_token")),
    ("llama2_chat", ("[INST]", "<<SYS>>")),
    ("mistral", ("[INST]",)),
)
# Two names for one form, ChatML.
ALIKE = {"internlm2_chat": "qwen_chat"}
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float": 4, "half": 2}
# What a file says may go into a comment only if it is a plain word.
WORD = re.compile(r"[\w.-]+")
# The vLLM that the shipped recipes serve with; another where the architecture asks for it.
VLLM = "0.6.6"


@dataclass(frozen=True)
class BaseFacts:
    """What was found out of a base; None, 0 or nothing where it was not.

    Attributes:
        row: the architecture's row in the catalogue.
        weights: bytes of all weights.
        template: xtuner's prompt template; `why` is how it is known.
        notes: what a person must know, a line each.
    """

    architecture: str | None = None
    row: Row | None = None
    context: int | None = None
    dtype: str | None = None
    weights: int = 0
    remote_code: bool = False
    chat_template: bool = False
    takes_tools: bool = False
    template: str | None = None
    why: str = ""
    tool_parser: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """How many numbers the weights are, by their bytes and format."""
        return self.weights // BYTES.get(self.dtype or "", 2)

    @property
    def vllm(self) -> str:
        """A version of vLLM that serves it."""
        return versions.serving(self.row.vllm if self.row else {}, VLLM)

    @property
    def memory(self) -> Mapping[str, float]:
        """Gigabytes of GPU memory, by rules of thumb: to serve it, and to train it in each way."""
        count = self.parameters / 1e9
        return {
            "serve": 1.2 * self.weights / 1e9,
            "lora": 2.4 * count + 2,
            "qlora": 0.8 * count + 2,
            "full": 16 * count + 2,
        }


def of(place: Place, label: str) -> BaseFacts:
    """Return what the files of a model tell.

    Args:
        label: the model's name on the Hub, or its folder.

    Raises:
        UserError: there is no config.json, or it cannot be read.
    """
    if "config.json" not in place.files:
        raise UserError(f"{label}: no config.json, so it is no model; name the folder that has one")
    config = survey.document(place, "config.json")
    tokenizer = survey.document(place, "tokenizer_config.json")
    chat = str(tokenizer.get("chat_template") or survey.text(place, "chat_template.jinja"))
    architecture = _architecture(config)
    row = _row(architecture, label)
    template, why = _template(row, chat, label)
    return BaseFacts(
        architecture=architecture,
        row=row,
        context=catalog.length(config),
        dtype=_dtype(config),
        weights=modelfiles.weights(place.files),
        remote_code="auto_map" in config or "auto_map" in tokenizer,
        chat_template=bool(chat),
        takes_tools="tools" in chat,
        template=template,
        why=why,
        tool_parser=_tool_parser(row, label),
        notes=tuple(_notes(config, architecture, row)),
    )


def by_name(label: str, files: Mapping[str, int] | None = None, note: str = "") -> BaseFacts:
    """Return what the catalogue knows of a model by its name, and the files' sizes."""
    named = [row for row in catalog.rows() if label.lower() in map(str.lower, row.examples)]
    row = named[0] if named else None
    template, why = _template(row, "", label)
    return BaseFacts(
        architecture=row.architecture if row else None,
        row=row,
        weights=modelfiles.weights(files or {}),
        template=template,
        why=why,
        tool_parser=_tool_parser(row, label),
        notes=tuple(filter(None, (note, row.note if row else ""))),
    )


def _architecture(config: Mapping[str, Any]) -> str | None:
    found = config.get("architectures")
    name = str(found[0]) if isinstance(found, list) and found else ""
    return name if WORD.fullmatch(name) else None


def _row(architecture: str | None, label: str) -> Row | None:
    try:
        return catalog.find(architecture, label) if architecture else None
    except UserError:
        return None


def _dtype(config: Mapping[str, Any]) -> str | None:
    inner = config.get("text_config")
    found = config.get("torch_dtype") or config.get("dtype")
    found = found or (inner.get("torch_dtype") if isinstance(inner, dict) else None)
    name = str(found or "").removeprefix("torch.")
    return name if WORD.fullmatch(name) else None


def _template(row: Row | None, chat: str, label: str) -> tuple[str | None, str]:
    """Return xtuner's prompt template and how it is known: the model's own word counts most."""
    listed = catalog.by_name(row.templates, label, row.template) if row else None
    seen = next((name for name, marks in MARKS if all(mark in chat for mark in marks)), None)
    if listed and seen and ALIKE.get(listed, listed) == seen:
        return listed, "the catalogue and the chat template agree"
    if seen:
        against = f"; the catalogue has {listed}" if listed else ""
        return seen, f"told by the model's chat template{against}"
    return listed, "told by the catalogue" if listed else ""


def _tool_parser(row: Row | None, label: str) -> str | None:
    return catalog.by_name(row.tool_parsers, label, row.tool_parser) if row else None


def _notes(config: Mapping[str, Any], architecture: str | None, row: Row | None) -> list[str]:
    notes = [row.note] if row and row.note else []
    if architecture and not row:
        notes.append(
            f"{architecture} is not in the catalogue (`doit catalog`); try it on vLLM first."
        )
    if "quantization_config" in config:
        notes.append("The weights are quantised; train on those that are not.")
    return notes
