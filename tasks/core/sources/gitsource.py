"""A Git repository with Git LFS, at one commit, without keeping the weights twice.

Git brings the pointers only (the document's skip-smudge), Git LFS then fetches the files that are
wanted, and each is moved, not copied, from its cache to where fetched files lie.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from .. import console
from ..engine import manifest
from ..errors import UserError
from ..sections import Source
from . import downloads, fetched
from . import source as sources

COMMIT = re.compile(r"[0-9a-f]{40}")
POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-.*\n)*oid sha256:([0-9a-f]{64})\n"
    rb"size (\d+)\n"
)
POINTER_MAX = 1024


def resolve(source: Source) -> str:
    """Return the commit that a branch, a tag or HEAD means now.

    Raises:
        UserError: no such repository or revision, or Git is missing.
    """
    revision = source.revision or "HEAD"
    if COMMIT.fullmatch(revision):
        return revision
    lines = _git(source, "ls-remote", "--", str(source.git)).splitlines()
    named = {name: commit for commit, _, name in (line.partition("\t") for line in lines)}
    # A tag with a message has an object of its own; `^{}` is the commit that it names.
    for name in (f"refs/tags/{revision}^{{}}", f"refs/tags/{revision}", f"refs/heads/{revision}"):
        if name in named:
            return named[name]
    if revision in named:
        return named[revision]
    raise UserError(f"{source.git}: no branch or tag '{revision}'; correct base.revision")


def fetch(source: Source, commit: str, folder: Path) -> None:
    """Fill a folder with a commit's files; large ones become links to where fetched files lie.

    Raises:
        UserError: the server refuses, a file cannot be had, a name or link leads out.
    """
    clone = clone_of(source, commit)
    with fetched.alone(clone):
        _fetch(source, commit, clone, folder)
        shutil.rmtree(clone)


def _fetch(source: Source, commit: str, clone: Path, folder: Path) -> None:
    _checkout(source, commit, clone)
    found = [
        path.relative_to(clone).as_posix()
        for path in manifest.walk(clone)
        if not sources.NOT_OURS.intersection(path.relative_to(clone).parts)
    ]
    names = sources.choose(source, {name: _entry(clone, name) for name in sorted(found)})
    for name in names:
        _check_link(clone, name)
    lfs = {name: entry for name, entry in names.items() if "digest" in entry}
    missing = {
        name: entry
        for name, entry in lfs.items()
        if not fetched.holds(entry["digest"], entry["size"])
    }
    _fetch_lfs(source, commit, clone, missing)
    for name in names:
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if name in lfs:
            fetched.link(lfs[name]["digest"], place)
        else:
            (clone / name).replace(place)


def clone_of(source: Source, commit: str) -> Path:
    """Return where a commit is cloned to while it is fetched; a killed build goes on there."""
    return fetched.place(f"clone:{manifest.digest_of([source.git, commit])[7:19]}")


def _checkout(source: Source, commit: str, clone: Path) -> None:
    """Bring the commit's files, with pointers in the place of large ones."""
    if not (clone / ".git").exists():
        clone.mkdir(parents=True, exist_ok=True)
        _git(source, "init", "--quiet", str(clone))
        url = str(source.git)
        local = Path(url).expanduser()
        _git(source, "remote", "add", "origin", str(local.absolute()) if local.exists() else url,
             at=clone)  # fmt: skip
    try:
        _git(source, "fetch", "--quiet", "--depth=1", "origin", commit, at=clone)
    except UserError:
        # Not every server gives a commit that no name points to.
        _git(source, "fetch", "--quiet", "--tags", "origin", "+refs/heads/*:refs/remotes/origin/*",
             at=clone)  # fmt: skip
    _git(source, "-c", "advice.detachedHead=false", "checkout", "--quiet", "--force", commit,
         at=clone)  # fmt: skip


def _check_link(clone: Path, name: str) -> None:
    path = clone / name
    if not _is_within(clone, path):
        raise UserError(f"{name}: a link out of the repository; leave it out with `ignore:`")
    if not path.is_file():
        raise UserError(f"{name}: a link that leads nowhere; leave it out with `ignore:`")


def _is_within(clone: Path, path: Path) -> bool:
    # Path.resolve raises for links in a circle.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(clone))


def _entry(clone: Path, name: str) -> dict[str, object]:
    path = clone / name
    if not (_is_within(clone, path) and path.is_file()):
        return {"size": 0}
    size = path.stat().st_size
    pointer = POINTER.match(path.read_bytes()) if size <= POINTER_MAX else None
    if pointer:
        return {"digest": f"sha256:{pointer[1].decode()}", "size": int(pointer[2])}
    return {"size": size}


def _fetch_lfs(source: Source, commit: str, clone: Path, missing: dict[str, dict]) -> None:  # type: ignore[type-arg]
    """Let Git LFS fetch files and move them; it has checked each against its digest."""
    if not missing:
        return
    if not shutil.which("git-lfs"):
        raise UserError("git-lfs is missing; install it (`apt install git-lfs`)")
    total = sum(entry["size"] for entry in missing.values())
    downloads.refuse_small_disk(total)
    console.say(f"   git lfs: {len(missing)} files, {console.size(total)}")
    # Git LFS divides patterns at commas, and a name may hold what is special in a pattern.
    chosen = ",".join(re.sub(r"[,*?\[\]{}!\\]", "?", name) for name in missing)
    _git(source, "lfs", "fetch", "origin", commit, f"--include={chosen}", at=clone)
    for name, entry in missing.items():
        digest = str(entry["digest"])
        hexadecimal = digest.removeprefix("sha256:")
        cached = clone / ".git/lfs/objects" / hexadecimal[:2] / hexadecimal[2:4] / hexadecimal
        place = fetched.place(digest)
        if cached.is_file():
            fetched.take(cached, digest)
        if not place.is_file() or place.stat().st_size != entry["size"]:
            raise UserError(f"{source.git}: Git LFS did not bring {name}; is it on the server?")


def _git(source: Source, *arguments: str, at: Path | None = None) -> str:
    """Run Git without prompts, filters of the user, or transports that run programs."""
    environment = {
        **os.environ,
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh",
        "LC_ALL": "C",
    }
    command = ["git", *(["-C", str(at)] if at else []), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    except FileNotFoundError:
        raise UserError("git is missing; install it (`apt install git git-lfs`)") from None
    if done.returncode:
        last = [line for line in done.stderr.strip().splitlines() if line][-3:]
        why = re.sub(r"//[^/@\s]+@", "//", "; ".join(last)) or f"exit status {done.returncode}"
        raise UserError(
            f"{source.git}: git {arguments[0]} failed: {why}; is the address right, and may you "
            "read it (credential helper, ~/.netrc, SSH key)?"
        )
    return done.stdout
