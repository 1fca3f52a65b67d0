"""Models and datasets on the Hugging Face Hub, or on a mirror of it.

huggingface_hub does the talking, with its own variables: HF_ENDPOINT, HF_HOME, HF_TOKEN,
HF_HUB_OFFLINE and the proxies.  Files come through plain HTTP, which every mirror speaks: the Xet
protocol leads past HF_ENDPOINT, and writes files that would have to be read once more to be hashed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..sections import Data, Source
from . import downloads, transfer
from .transfer import Remote

DEFAULT_REVISION = "main"
Files = dict[str, dict[str, Any]]


class Gated(UserError):
    """The files are there, and this account has no access to them."""


def resolve(source: Source) -> tuple[str, Files]:
    """Return the commit that a revision means now, and every file in it: size and digest.

    Raises:
        UserError: no such repository or revision, no access, no network.
    """
    revision = source.revision or DEFAULT_REVISION
    with explained(source):
        from huggingface_hub import HfApi
        from huggingface_hub.constants import is_offline_mode

        if is_offline_mode():
            return _in_cache(source, revision)
        api = HfApi(endpoint=endpoint())
        ask = api.dataset_info if _kind(source) == "dataset" else api.model_info
        info = ask(str(source.hub), revision=revision, files_metadata=True)
    files = {
        sibling.rfilename: {
            "size": sibling.lfs.size if sibling.lfs else sibling.size,
            "digest": f"sha256:{sibling.lfs.sha256}" if sibling.lfs else f"git:{sibling.blob_id}",
        }
        for sibling in info.siblings or ()
    }
    if any(file["size"] is None or file["digest"] == "git:None" for file in files.values()):
        raise UserError(
            f"{endpoint()}: tells neither sizes nor digests of {source.hub}, so nothing could be "
            "verified; set HF_ENDPOINT to the Hub or to a mirror that does"
        )
    return str(info.sha), files


def fetch(source: Source, commit: str, files: Mapping[str, Mapping[str, Any]], into: Path) -> None:
    """Link a commit's files into a folder, after fetching those that are not here yet."""
    with explained(source):
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils._headers import build_hf_headers

        remotes = [
            Remote(
                path,
                file["size"],
                file["digest"],
                hf_hub_url(
                    str(source.hub),
                    path,
                    repo_type=_kind(source),
                    revision=commit,
                    endpoint=endpoint(),
                ),
            )
            for path, file in files.items()
        ]
        headers = build_hf_headers()
        downloads.fetch(remotes, into, headers, lambda remote: _cached(source, commit, remote.path))


def head(source: Source, commit: str, path: str, most: int) -> bytes:
    """Return the first bytes of a file, to look at; nothing is kept.

    Raises:
        UserError: no access, no network.
    """
    with explained(source):
        from huggingface_hub import hf_hub_url
        from huggingface_hub.utils._headers import build_hf_headers

        kind, name = _kind(source), str(source.hub)
        url = hf_hub_url(name, path, repo_type=kind, revision=commit, endpoint=endpoint())
        return transfer.head(url, build_hf_headers(), most)


def endpoint() -> str:
    """Return the Hub's address without a slash at its end.

    Raises:
        UserError: it holds a password, which messages would tell.
    """
    found = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    if "@" in found:
        raise UserError("`HF_ENDPOINT`: take user and password out of the address; set HF_TOKEN")
    return found.rstrip("/")


@contextmanager
def explained(source: Source) -> Iterator[None]:
    """Turn what huggingface_hub raises into one clear message."""
    from huggingface_hub import errors

    name, where = source.label, endpoint()
    try:
        with transfer.explained(name, where, "HF_TOKEN"):
            try:
                yield
            except errors.GatedRepoError as error:
                raise Gated(_gated(name, where, error.response.status_code)) from None
            except errors.RepositoryNotFoundError:
                raise UserError(
                    f"{name}: no such {_kind(source)} on {where}, or a private one; correct the "
                    "name, or set HF_TOKEN to a token that may read it"
                ) from None
            except errors.RevisionNotFoundError:
                raise UserError(
                    f"{name}: no revision '{source.revision or DEFAULT_REVISION}' on {where}; "
                    "name a branch, a tag or a commit that it has"
                ) from None
    except errors.HFValidationError as error:
        raise UserError(f"{name}: no name of a repository: {error}") from None
    except errors.OfflineModeIsEnabled:
        raise UserError(
            f"{name}: not all of it is on this machine, and HF_HUB_OFFLINE is set; "
            "unset it, or fetch the files into HF_HOME beforehand"
        ) from None


def _gated(name: str, where: str, status: int) -> str:
    ask = f"{name} is gated: ask for access on {where}/{name} in a browser"
    if status == 401:
        return f"{ask}, then set HF_TOKEN to a token of the same account (or `hf auth login`)"
    return f"{ask}; the account of your token (HF_TOKEN) does not have it yet"


def _kind(source: Source) -> str:
    return "dataset" if isinstance(source, Data) else "model"


def _snapshot(source: Source, commit: str) -> Path:
    """Return where the user's own cache of the Hub has a commit."""
    from huggingface_hub.constants import HF_HUB_CACHE

    folder = f"{_kind(source)}s--{str(source.hub).replace('/', '--')}"
    return Path(HF_HUB_CACHE) / folder / "snapshots" / commit


def _cached(source: Source, commit: str, path: str) -> Path | None:
    found = _snapshot(source, commit) / path
    return found if found.is_file() else None


def _in_cache(source: Source, revision: str) -> tuple[str, Files]:
    """Return what `resolve` does from the user's own cache, where a file's name is its digest."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    reference = _snapshot(source, "").parent / "refs" / revision
    commit = reference.read_text().strip() if reference.is_file() else revision
    folder = _snapshot(source, commit)
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            kind = "sha256" if len(path.resolve().name) == 64 else "git"
            digest = f"{kind}:{path.resolve().name}"
            files[str(path.relative_to(folder))] = {"size": path.stat().st_size, "digest": digest}
    if not files:
        raise OfflineModeIsEnabled
    return commit, files
