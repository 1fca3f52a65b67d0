"""Train the byte-level tokenizer of tiny-agent and write it in Hugging Face's form."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SIZE = 1536
BOS, END, HEADER, HEADER_END, EOT = SPECIAL = [
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
]
# A value must have the same tokens in prose and between JSON's quotes, or copying is much harder to
# learn: so a space is never part of a word, and JSON's joints are pieces of their own.
PIECES = r'\{"|": "|", "|"\}|[A-Za-z]+|[0-9]{1,3}|\n\n|\s|[^\sA-Za-z0-9]'
# xtuner's llama3_chat, character for character; it puts the first token in front itself.
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    " + message['content'] + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def train(texts: Iterable[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def turn(role: str, content: str) -> tuple[str, str]:
    """Return a turn of the template in two parts: its header, and what an assistant must say."""
    return f"{HEADER}{role}{HEADER_END}\n\n", f"{content}{EOT}"


def write(tokenizer: Tokenizer, folder: Path) -> None:
    special = {"bos_token": BOS, "eos_token": EOT, "pad_token": END}
    config: dict[str, Any] = {
        **special,
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": 1024,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "chat_template": CHAT_TEMPLATE,
    }
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in {"tokenizer_config": config, "special_tokens_map": special}.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")
