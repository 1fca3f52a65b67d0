"""Tell whether an adapter's tokenizer has tokens that the base's lacks.

Tokens are often added to rows that a base has to spare; then no tensor's shape tells of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from ..errors import UserError

T = TypeVar("T")
WHOLE, SETTINGS, PIECES = "tokenizer.json", "tokenizer_config.json", "tokenizer.model"
# Any of these is enough to know how text is split.
_ENOUGH = ((WHOLE,), (PIECES,), ("vocab.json", "merges.txt"), ("vocab.txt",))


def are_new(adapter: Path, base: Path, rows: int) -> bool:
    """Return whether an adapter has a whole tokenizer, with tokens that the base's lacks.

    Args:
        rows: how many tokens the model has; with those beyond nothing can have been trained.

    Raises:
        UserError: a file of a tokenizer is damaged.
    """
    if not _is_whole(adapter, base):
        return False
    new = {token for token, number in _added(adapter).items() if number < rows}
    new -= _added(base).keys()
    return bool(new) and any(not _is_piece(token, base) for token in new - _listed(base))


def has_template(folder: Path) -> bool:
    """Return whether a tokenizer's settings hold its template of conversations.

    Raises:
        UserError: the file is damaged.
    """
    return bool(_read(folder / SETTINGS, lambda said: said.get("chat_template") or ()))


def _is_whole(adapter: Path, base: Path) -> bool:
    """Return whether a folder has what splits text, and settings where the base has some."""
    enough = any(all((adapter / name).is_file() for name in names) for names in _ENOUGH)
    return enough and ((adapter / SETTINGS).is_file() or not (base / SETTINGS).is_file())


def _added(folder: Path) -> dict[str, int]:
    """Return the tokens that were added to a vocabulary, and their numbers."""
    return dict(
        [
            *_read(folder / WHOLE, _added_in_whole),
            *_read(folder / SETTINGS, _added_in_settings),
            *_read(folder / "added_tokens.json", _numbered),
        ]
    )


def _added_in_whole(said: Any) -> Iterable[tuple[str, int]]:
    return _numbered({each["content"]: each["id"] for each in said.get("added_tokens") or []})


def _added_in_settings(said: Any) -> Iterable[tuple[str, int]]:
    added = said.get("added_tokens_decoder") or {}
    return _numbered({each["content"]: number for number, each in added.items()})


def _numbered(tokens: Any) -> Iterable[tuple[str, int]]:
    return [(str(token), int(number)) for token, number in tokens.items()]


def _listed(folder: Path) -> set[str]:
    """Return the tokens of a vocabulary, where it is text."""
    words = folder / "vocab.txt"
    return {
        *_read(folder / WHOLE, _vocabulary),
        *_read(folder / "vocab.json", list),
        *(words.read_text(encoding="utf-8", errors="replace").split() if words.is_file() else ()),
    }


def _vocabulary(said: Any) -> Iterable[str]:
    found = (said.get("model") or {}).get("vocab") or []
    # A Unigram model has pairs, of a token and its score.
    return found if isinstance(found, dict) else [token for token, _ in found]


def _is_piece(token: str, folder: Path) -> bool:
    """Return whether SentencePiece's file has a token: a tag, its length, and itself."""
    path, raw = folder / PIECES, token.encode(errors="surrogatepass")
    return len(raw) < 128 and path.is_file() and b"\n%c%b" % (len(raw), raw) in path.read_bytes()


def _read(path: Path, take: Callable[[Any], Iterable[T]]) -> list[T]:
    """Return what a tokenizer's file has of something; nothing where there is no such file.

    Raises:
        UserError: it is damaged.
    """
    if not path.is_file():
        return []
    try:
        return list(take(json.loads(path.read_text(encoding="utf-8"))))
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError,
            ValueError) as error:  # fmt: skip
        raise UserError(f"{path}: no file of a tokenizer ({error}); fetch it again") from None
