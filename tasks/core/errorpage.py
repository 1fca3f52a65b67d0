"""docs/errors.md: every message that a user can cause, and what to do about it.

Run by hand after an edit of a message:  python -m tasks.core.errorpage
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from pathlib import Path

import yaml

from . import paths
from .messages import STEP, Message, messages

PAGE = Path("docs/errors.md")
CURES = paths.CORE / "cures.yaml"
HEAD = """\
# Messages, and what to do

Every message that you can cause; what is in `<...>` is filled in when it is said.
Search this page for the words of yours that are neither names nor numbers.
Exit status 1 is a stage that failed, 3 a recipe, a setting or a command that is wrong.
[Troubleshooting](troubleshooting.md) tells more about the common ones.

This page is made from the code by `python -m tasks.core.errorpage`.
"""
# The parts of the page, in order, and the modules of each; the rest comes last.
PARTS = (
    (
        "Recipes",
        r"core/(recipe|sections|\w+file|evaluation/prompts|engine/inputs|training/checkpoints)\.py",
    ),
    ("Settings", r"core/(settings|engine/pools)\.py"),
    ("Commands", r"core/(commands|compare|new|report)/.*"),
    ("Bases, data and adapters from elsewhere", r"core/sources/.*|base\.py|data\.py"),
    ("Datasets", r"convert\.py|core/xtuner/rows\.py|core/xtuner/convert\.py"),
    ("Toolchains", r"core/toolchains/.*"),
    (
        "Training",
        r"(config|train|select)\.py|core/((launching|xtuner|preset)/.*|(engine/process|render)\.py)",
    ),
    ("Adapter and merge", r"(adapter|merge)\.py|core/model/.*"),
    ("Evaluation", r"evaluate\.py|core/evaluation/.*"),
    ("Images and registries", r"(dockerfile|image|push)\.py|core/image/.*"),
    (
        "S3 and the stores",
        r"(upload|archive)\.py|core/(s3/.*|engine/(shared|store|room|digests)\.py)",
    ),
    ("Model centre and catalogue", r"onboard\.py|core/(catalog\.py|kubernetes/.*)"),
    (
        "Containers and servers",
        r"core/(pins|identity|serving/container|web/(address|api)|engine/shipping)\.py",
    ),
    ("Serving", r"(serve|compose)\.py|core/(serving|xinference|vllm)/.*"),
    ("Gateway and FastGPT", r"(gateway|app)\.py|core/(gateways|fastgpt)/.*"),
    ("Everything else", r".*"),
)


@functools.cache
def cures() -> dict[str, str]:
    """Return what to do about messages that do not say it, by message."""
    found: dict[str, str] = yaml.safe_load((paths.ROOT / CURES).read_text(encoding="utf-8"))
    return found


def page() -> str:
    """Return the page."""
    left, text = messages(), [HEAD]
    for name, modules in PARTS:
        own = [message for message in left if re.fullmatch(modules, message.module)]
        left = [message for message in left if message not in own]
        if own:
            text += [f"## {name}\n", "| message | what to do |", "|---|---|", *_rows(own), ""]
    return "\n".join(text)


def _rows(own: list[Message]) -> Iterator[str]:
    for text in sorted({message.text for message in own}, key=str.lower):
        what, step = divided(text)
        yield f"| {_code(what)} | {_cell(step)} |"


def divided(text: str) -> tuple[str, str]:
    """Return what a message says is wrong, and what it says to do."""
    if text in cures():
        return text, cures()[text]
    for found in re.finditer(r"; |\. (?=[A-Z])|\? (?=[A-Z])", text):
        step = text[found.end() :]
        if STEP.search(f"; {step}"):
            return text[: found.start()], f"{step[0].upper()}{step[1:]}"
    return text, "As it says."


def _code(text: str) -> str:
    """Return a text as code in a cell of a table, whatever backticks are in it."""
    quote = "``" if "`" in text else "`"
    blank = " " if text.startswith("`") or text.endswith("`") else ""
    return _cell(f"{quote}{blank}{text}{blank}{quote}")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
