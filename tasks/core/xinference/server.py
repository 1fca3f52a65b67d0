"""An Xinference that we start: xinference-local from its toolchain, or the container of its image.

It listens on the loopback and asks for no login, unless the settings have a user and a password:
then it asks everybody, and that account is made when it first starts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import paths, settings
from ..serving import container, daemon, servers, starting
from ..serving.serving import Place
from ..serving.starting import Start
from ..toolchains import toolchain

if TYPE_CHECKING:
    from .client import Client

KIND = "xinference"
PORT = 9997
# Where the container sees the build folder.
MODELS = "/models"
# Needs of a model that the server is started with.
TRUST = "trust_remote_code"
SETUP_TOKEN = re.compile(r"Setup token: (\S+)")


def uri(at: Place, folder: Path) -> str:
    """Return a model's folder as the server sees it.

    Args:
        folder: below the build folder.
    """
    inside = folder.relative_to(paths.build())
    if at.way == "docker":
        return f"{MODELS}/{inside.as_posix()}"
    own = settings.current().xinference_models if at.way == "endpoint" else ""
    return f"{own.rstrip('/')}/{inside.as_posix()}" if own else str(folder.absolute())


def needs(at: Place, folder: Path, *, trust: bool) -> set[str]:
    """Return what a model needs of the server: trust, and folders that its files are links to."""
    found = {TRUST} if trust else set()
    if at.way == "docker":
        build = paths.build().resolve()
        targets = {path.resolve().parent for path in folder.rglob("*") if path.is_symlink()}
        found |= {str(target) for target in targets if not target.is_relative_to(build)}
    return found


def ensure(at: Place, needed: set[str], there: Client) -> None:
    """Have a server that answers; start one where that is ours to do.

    Raises:
        UserError: it does not start, or nobody answers at the endpoint.
    """
    if at.way == "endpoint":
        there.ask("GET", "/status")
        return
    starting.refuse_open(
        at,
        there.user and there.password,
        "set MODELWRIGHT_XINFERENCE_USER and MODELWRIGHT_XINFERENCE_PASSWORD",
    )
    starting.ensure(
        at,
        needed,
        lambda extras: start(at, extras),
        there,
        "/status",
        lambda: _make_account(at, there),
    )


def start(at: Place, extras: Sequence[str]) -> Start:
    """Return how Xinference is started: the document's `docker run`, or xinference-local."""
    if at.way == "docker":
        return Start(run(at, extras), {})
    home = str((daemon.folder(at.name) / "home").absolute())
    # Packages come from the toolchain; none are fetched when a model is launched.
    own = {"XINFERENCE_HOME": home, "XINFERENCE_ENABLE_VIRTUAL_ENV": "0"}
    program = "from xinference.deploy.cmdline import local; local()"
    interpreter = toolchain.python(KIND)
    command = [interpreter, "-c", program, "-H", at.bind, "-p", str(at.port)]
    return Start(command, {**own, **environ(extras)})


def environ(extras: Sequence[str]) -> dict[str, str]:
    """Return what both kinds of server are started with."""
    found = settings.current()
    login = bool(found.xinference_user and found.xinference_password)
    return {
        "XINFERENCE_AUTH_ADVANCED": "true" if login else "false",
        **({"XINFERENCE_TRUST_REMOTE_CODE": "1"} if TRUST in extras else {}),
    }


def run(at: Place, extras: Sequence[str]) -> list[str]:
    """Return the document's `docker run`, with the build folder in the place of its /home."""
    host = at.bind if settings.current().serve_network == "host" else "0.0.0.0"  # noqa: S104
    mounts = {path: f"{path}:ro" for path in extras if path != TRUST}
    home = daemon.folder(at.name).absolute()
    return container.command(
        at.name,
        settings.current().xinference_image,
        ["xinference-local", "-H", host, "-p", str(at.port)],
        port=(at.bind, at.port, at.port),
        volumes={
            container.build(): f"{MODELS}:ro",
            f"{home}/home": "/root/.xinference",
            f"{home}/cache/huggingface": "/root/.cache/huggingface",
            f"{home}/cache/modelscope": "/root/.cache/modelscope",
            **mounts,
        },
        environ=environ(extras),
        network=settings.current().serve_network,
        gpus=servers.gpus(),
        extras=extras,
        # Its image installs engines when a model is first launched.
        passed=container.fetching(settings.current().serve_network),
    )


def _make_account(at: Place, client: Client) -> None:
    """Make the account of the settings, where a new server waits for its first."""
    if not (client.user and client.password):
        return
    answer = client.ask("GET", "/v1/admin/setup/status")
    if not (isinstance(answer.body, dict) and answer.body.get("needs_setup")):
        return
    token = SETUP_TOKEN.search(servers.printed(at))
    login = {"username": client.user, "password": client.password}
    body = {**login, "setup_token": token[1] if token else ""}
    answer = client.ask("POST", "/v1/admin/setup", body)
    if answer.status >= 400:
        raise client.fault(f"no account could be made: {client.said(answer)}")
