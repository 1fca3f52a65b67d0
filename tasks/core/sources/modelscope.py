"""Models and datasets on ModelScope, through its HTTP interface.

MODELSCOPE_ENDPOINT names another server, MODELSCOPE_API_TOKEN gives access.  ModelScope tells the
sha256 of every file, and the commit of each file's last change, by which it is fetched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..engine import manifest
from ..errors import UserError
from ..sections import Data, Source
from . import downloads, transfer
from .transfer import Remote

DEFAULT_REVISION = "master"
# A listing of models ends here without a word (modelscope_hub: REPO_FILES_TRUNCATION_LIMIT).
LIMIT = 3000
PAGE = 200
TOKEN = "MODELSCOPE_API_TOKEN"  # noqa: S105  # the variable's name


def resolve(source: Source) -> tuple[str, dict[str, dict[str, Any]]]:
    """Return a digest of what a revision holds now, and every file in it.

    Raises:
        UserError: no such repository or revision, no access, no network, too many files.
    """
    with transfer.explained(source.label, endpoint(), TOKEN):
        entries = list(_entries(source))
    files: dict[str, dict[str, Any]] = {
        entry["Path"]: {
            "size": int(entry["Size"]),
            "digest": f"sha256:{entry['Sha256']}",
            "commit": str(entry.get("Revision") or source.revision or DEFAULT_REVISION),
        }
        for entry in entries
        if entry.get("Type") != "tree"
    }
    if any(len(file["digest"]) != len("sha256:") + 64 for file in files.values()):
        raise UserError(f"{source.label}: {endpoint()} does not tell the sha256 of its files")
    return manifest.digest_of(files), files


def fetch(source: Source, commit: str, files: Mapping[str, Mapping[str, Any]], into: Path) -> None:
    """Link the files into a folder, after fetching those that are not here yet."""
    remotes = [
        Remote(path, file["size"], file["digest"], _url(source, path, file["commit"]))
        for path, file in files.items()
    ]
    with transfer.explained(source.label, endpoint(), TOKEN):
        downloads.fetch(remotes, into, _headers())


def head(source: Source, commit: str, path: str, most: int) -> bytes:
    """Return the first bytes of a file, to look at; nothing is kept.

    Raises:
        UserError: no access, no network.
    """
    with transfer.explained(source.label, endpoint(), TOKEN):
        return transfer.head(_url(source, path, commit), _headers(), most)


def endpoint() -> str:
    """Return ModelScope's address without a slash at its end."""
    return (os.environ.get("MODELSCOPE_ENDPOINT") or "https://modelscope.cn").rstrip("/")


def _entries(source: Source) -> Iterator[dict[str, Any]]:
    revision = quote(source.revision or DEFAULT_REVISION, safe="")
    ask = f"{_repository(source)}/repo/{{}}?Revision={revision}&Recursive=True"
    if not isinstance(source, Data):
        found = _ask(ask.format("files"))
        if len(found) >= LIMIT:
            raise UserError(
                f"{source.label}: {LIMIT} files or more, which ModelScope does not list; "
                "take it with `git:`"
            )
        yield from found
        return
    page, found = 0, [{}] * PAGE
    while len(found) == PAGE:
        page += 1
        found = _ask(f"{ask.format('tree')}&PageNumber={page}&PageSize={PAGE}")
        yield from found


def _ask(url: str) -> list[dict[str, Any]]:
    from huggingface_hub.utils._http import hf_raise_for_status, http_backoff

    response = http_backoff("GET", url, headers=_headers(), timeout=60)
    hf_raise_for_status(response)
    data = response.json().get("Data") or {}
    return list(data if isinstance(data, list) else data.get("Files") or [])


def _headers() -> dict[str, str]:
    token = os.environ.get(TOKEN)
    return {"Authorization": f"Bearer {token}"} if token else {}


def _repository(source: Source) -> str:
    kind = "datasets" if isinstance(source, Data) else "models"
    return f"{endpoint()}/api/v1/{kind}/{quote(str(source.modelscope))}"


def _url(source: Source, path: str, commit: str) -> str:
    return f"{_repository(source)}/repo?Revision={quote(commit)}&FilePath={quote(path, safe='')}"
