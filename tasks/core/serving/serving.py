"""Where a model is served: at an endpoint that is there, or by a server that we start."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from .. import catalog, settings
from ..errors import UserError
from ..recipe import Recipe
from ..web.address import address

LOOPBACK = ("127.0.0.1", "localhost", "::1")
ANYWHERE = ("0.0.0.0", "::")  # noqa: S104  # known, to be refused without a password


@dataclass(frozen=True)
class Place:
    """Where a server is.

    Attributes:
        kind: xinference or vllm.
        way: endpoint, local or docker.
        endpoint: its address as this machine sees it, without /v1.
        bind, port: where a server that we start listens.
        owner: the model that the server is for, where it serves one only.
    """

    kind: str
    way: str
    endpoint: str
    bind: str = ""
    port: int = 0
    owner: str = ""

    @property
    def name(self) -> str:
        """The name of a server that we start, as a process and as a container."""
        return f"modelwright-{self.kind}-{self.owner or self.port}"


def way(kind: str) -> str:
    """Return how a model is served: by an endpoint, or as the settings say; not judged here."""
    found = settings.current()
    return "endpoint" if getattr(found, f"{kind}_endpoint") else found.serve_run


def place(kind: str, port: int, owner: str = "") -> Place:
    """Return where a model is served, as the settings say.

    Args:
        port: the server's usual one.
        owner: the model, where a server serves one only.

    Raises:
        UserError: a setting is wrong.
    """
    found = settings.current()
    given: str = getattr(found, f"{kind}_endpoint")
    if given:
        at = found.where(f"{kind}_endpoint")
        return Place(kind, "endpoint", address(given, at).removesuffix("/v1"))
    chosen = int(found.serve_port or port)
    here = LOOPBACK[0] if found.serve_bind in ANYWHERE else found.serve_bind
    host = f"[{here}]" if ":" in here else here
    there = f"http://{host}:{chosen}"
    return Place(kind, found.serve_run, there, found.serve_bind, chosen, owner)


def left(kind: str, way: str, endpoint: str, owner: str = "") -> Place:
    """Return the place that a receipt tells of."""
    return Place(kind, way, endpoint, port=urlsplit(endpoint).port or 0, owner=owner)


def timeout() -> float:
    """Return how many seconds a server or a model may take to start."""
    return float(settings.current().serve_timeout)


def context_length(recipe: Recipe) -> int | None:
    """Return how many tokens the model is served with; None where nothing tells.

    Raises:
        UserError: the recipe asks for more than the model was made for.
    """
    made_for = catalog.context_length(recipe)
    given = recipe.serve.context_length if recipe.serve else None
    if given is not None and made_for is not None and given > made_for:
        raise UserError(
            f"{recipe.file}: serve.context_length: {given} is more than the {made_for} tokens "
            f"that {recipe.base.label} was made for; give it {made_for} or less"
        )
    return given or made_for
