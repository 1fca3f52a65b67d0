"""What is known of vLLM's versions: flags, tool parsers, and which version an image has."""

from __future__ import annotations

import re
from collections.abc import Mapping

from ..errors import UserError
from . import reference

Version = tuple[int, ...]

# The first version with each flag.
FLAGS: dict[str, Version] = {
    "--enable-auto-tool-choice": (0, 6, 0),
    "--tool-call-parser": (0, 6, 0),
    "--enable-lora": (0, 3, 0),
    "--lora-modules": (0, 3, 0),
    "--max-lora-rank": (0, 3, 0),
}
# --tool-call-parser: those of 0.6.0, of 0.6.6, of 0.9.2, of 0.19.0 and of 0.22.1.
FIRST_PARSERS = frozenset({"hermes", "mistral"})
OLD_PARSERS = FIRST_PARSERS | {
    "granite", "granite-20b-fc", "internlm", "jamba", "llama3_json", "pythonic",
}  # fmt: skip
EARLY_PARSERS = OLD_PARSERS | {
    "deepseek_v3", "llama4_pythonic", "llama4_json", "minimax", "phi4_mini_json", "xlam",
}  # fmt: skip
LATE_PARSERS = frozenset({
    "deepseek_v31", "deepseek_v32", "ernie45", "functiongemma", "gemma4", "gigachat3", "glm45",
    "glm47", "hunyuan_a13b", "kimi_k2", "longcat", "minimax_m2", "olmo3", "openai", "qwen3_coder",
    "qwen3_xml", "seed_oss", "step3", "step3p5",
})  # fmt: skip
NEW_PARSERS = frozenset({"apertus", "deepseek_v4", "granite4", "hy_v3", "lfm2", "poolside_v1"})
# A version that has them, the oldest first.
PARSERS: Mapping[str, frozenset[str]] = {
    "0.6.6": OLD_PARSERS, "0.9.2": EARLY_PARSERS, "0.19.0": LATE_PARSERS, "0.22.1": NEW_PARSERS,
}  # fmt: skip
# A later version may have more.
NEWEST = [*PARSERS][-1]
# From here on vLLM runs what it does not know through Transformers.
ANYTHING: Version = (0, 9, 0)
# The catalogue's marks for LoRA are the document's version's and the newest's.
DOCUMENT: Version = (0, 4, 1)
# transformers 4.44 dropped the templates that it had for models without one.
TEMPLATES: Version = (0, 5, 5)
_VLLM = re.compile(r"v?(\d+(?:\.\d+)+)")


def of_image(name: str) -> Version | None:
    """Return the version of vLLM in an image, as its tag has it; None where it is not told."""
    try:
        asked = reference.parse(name)
    except UserError:
        return None
    found = _VLLM.match(asked.tag or "")
    return parse(found[1]) if "vllm" in asked.repository and found else None


def serving(known: Mapping[str, str | None], wished: str) -> str:
    """Return the wished version, or the nearest that serves an architecture.

    Args:
        known: the first and the last that do, as the catalogue has them.
    """
    first, last = known.get("first"), known.get("last")
    if first and parse(first) > parse(wished):
        return first
    return last if last and parse(last) < parse(wished) else wished


def parsing(parser: str) -> str:
    """Return a version that has a tool parser; the newest for one that is not known."""
    return next((version for version, found in PARSERS.items() if parser in found), NEWEST)


def is_known(parser: str) -> bool:
    """Return whether any version of which it is known has a tool parser."""
    return any(parser in found for found in PARSERS.values())


def lacking(parser: str) -> str | None:
    """Return the newest version of which it is known that it lacks a tool parser, if any."""
    before = None
    for version, found in PARSERS.items():
        if parser in found:
            return before
        before = version
    return None


def parse(version: str) -> Version:
    """Return a version's numbers: 0.4.0.post1 is (0, 4, 0)."""
    found = [re.match(r"\d+", part) for part in version.split(".")]
    return tuple(int(part[0]) for part in found if part)
