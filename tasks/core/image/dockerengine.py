"""The Docker engine, through its own client: contexts, rootless and remote engines just work.

BuildKit reads the model's folder as it is, with the ignore file beside our Dockerfile.  A client
without BuildKit, or a folder of links, gets the context as a tar on its standard input.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ..engine import digests, manifest
from ..errors import UserError
from ..model import modelfiles
from . import dockerarchive, layers, oci, reference

Content = Callable[[oci.Descriptor], Iterator[bytes | memoryview]]

# The first engine with the API that today's clients speak, 1.39.
OLDEST = (18, 9)
IGNORE = ".dockerignore"
_TAIL = 12


def version() -> str:
    """Return the engine's version.

    Raises:
        UserError: there is no client, no engine, or it is too old.
    """
    told = _ask("version", "--format", "{{.Server.Version}}").strip()
    found = re.match(r"(\d+)\.(\d+)", told)
    if found and (int(found[1]), int(found[2])) < OLDEST:
        oldest = ".".join(f"{part:02}" for part in OLDEST)
        raise UserError(f"the Docker engine is {told}, too old; install {oldest} or later")
    return told


def has_buildx() -> bool:
    """Return whether the client has buildx, which takes further contexts."""
    return _status("buildx", "version") == 0


def has_buildkit() -> bool:
    """Return whether the client can build with BuildKit: through buildx, or by itself before 23."""
    if has_buildx():
        return True
    client = _ask("version", "--format", "{{.Client.Version}}").strip()
    found = re.match(r"(\d+)\.", client)
    return bool(found) and int(found[1]) < 23 if found else False


def build(command: list[str], context: Path, dockerfile: Path, log: Path) -> str:
    """Build an image and return its id.

    Args:
        command: `docker build` with its options, up to the Dockerfile and the context.
        context: the model's folder.
        dockerfile: the Dockerfile, with .dockerignore beside it.

    Raises:
        UserError: the build fails; the engine's last lines are in it.
    """
    names = modelfiles.outgoing(context)
    linked = any((context / name).is_symlink() for name in names)
    # In a tar BuildKit would copy our two files too; the classic builder takes them out.
    buildkit = not linked and has_buildkit()
    identity = log.with_suffix(".iid")
    identity.unlink(missing_ok=True)
    command = [*command, "--iidfile", str(identity)]
    environ = {"DOCKER_BUILDKIT": "1" if buildkit else "0", "BUILDKIT_PROGRESS": "plain"}
    if buildkit:
        run([*command, "-f", str(dockerfile), str(context)], log, environ)
    else:
        run([*command, "-"], log, environ, layers.read(tar(context, names, dockerfile)))
    text = identity.read_text(encoding="utf-8").strip()
    identity.unlink()
    return text


def tar(context: Path, names: Iterable[str], dockerfile: Path) -> list[layers.Part]:
    """Return a build context as a tar; the engine takes both files of ours out before COPY."""
    ours = [("Dockerfile", dockerfile), (IGNORE, dockerfile.with_name(IGNORE))]
    found: list[layers.Part] = []
    for name, path in [*ours, *((name, context / name) for name in names)]:
        size = path.stat().st_size
        found += [layers.header(name, size), (path, size), bytes(-size % layers.BLOCK)]
    return [*found, bytes(2 * layers.BLOCK)]


def has(image: str) -> bool:
    """Return whether the engine has an image, by name or id."""
    return _status("image", "inspect", image) == 0


def is_only_here(image: str) -> bool:
    """Return whether the engine has an image that no registry gave it."""
    form = "{{json .RepoDigests}}"
    return has(image) and not json.loads(_ask("image", "inspect", "--format", form, image))


def load(name: str, image: oci.Image, content: Content, log: Path) -> None:
    """Have an image of this machine in the engine, by a name; one that it has is not sent again.

    Args:
        content: gives the bytes of a layer.

    Raises:
        UserError: the engine refuses it.
    """
    identity = digests.of_bytes(manifest.canonical(image.config))
    if not has(name) or _ask("image", "inspect", "--format", "{{.Id}}", name).strip() != identity:
        run(["docker", "load"], log, feed=dockerarchive.stream(image, name, content))


def push(image: str, name: str, log: Path) -> str:
    """Push an image under a name and return its digest in the registry.

    Raises:
        UserError: the registry or the engine refuses; their words are in it.
    """
    _ask("tag", image, name)
    run(["docker", "push", name], log)
    listed = json.loads(_ask("image", "inspect", "--format", "{{json .RepoDigests}}", name))
    wanted = reference.parse(name)
    # Of Docker Hub's an engine leaves the host away.
    for one in map(reference.parse, listed):
        if one.digest and (one.host, one.repository) == (wanted.host, wanted.repository):
            return one.digest
    raise UserError(f"{name}: pushed, but the engine names no digest; its log is {log}")


def run(
    command: list[str],
    log: Path,
    environ: dict[str, str] | None = None,
    feed: Iterable[bytes | memoryview] | None = None,
) -> None:
    """Run a command of the client, fed with bytes; its output goes to a log.

    Raises:
        UserError: it fails.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL if feed is None else subprocess.PIPE,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environ or {})},
        )
        try:
            if feed is not None:
                _feed(child, feed)
            status = child.wait()
        finally:
            child.kill()
            child.wait()
    if status:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(f"  | {line}" for line in lines[-_TAIL:] if line.strip())
        raise UserError(f"docker {command[1]} failed ({status})\n  log: {log}\n{tail}")


def _feed(child: subprocess.Popen[bytes], feed: Iterable[bytes | memoryview]) -> None:
    assert child.stdin is not None
    try:
        for piece in feed:
            child.stdin.write(piece)
        child.stdin.close()
    except BrokenPipeError:
        return  # the client gave up; its status and its words say why


def _status(*words: str) -> int:
    try:
        return subprocess.run(["docker", *words], capture_output=True, check=False).returncode
    except FileNotFoundError:
        return 127


def _ask(*words: str) -> str:
    try:
        done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError(
            "docker: no such program; install the Docker client, or say `builder: oci`"
        ) from None
    if done.returncode == 0:
        return done.stdout
    told = done.stderr.strip() or done.stdout.strip()
    if "connect to the docker daemon" in told.lower() or "docker.sock" in told:
        where = os.environ.get("DOCKER_HOST", "the default socket")
        raise UserError(
            f"no Docker engine answers at {where}; start it, set DOCKER_HOST, or say `builder: oci`"
        )
    raise UserError(f"docker {' '.join(words[:2])} failed: {told}")
