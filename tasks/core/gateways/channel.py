"""What a channel is, and what every gateway offers to keep one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

# What is sent where a model's server wants no key: gateways take no channel without one.
NO_KEY = "sk-none"
# What a channel of ours bears, with its owner behind it.
MARK = "modelwright"

Fields = dict[str, Any]


@dataclass(frozen=True)
class Channel:
    """A channel as the recipe and the settings want it.

    Attributes:
        upstream: where the gateway reaches the model's server, without /v1.
        model: what clients ask for.
        served: what the server calls it.
        priority: among channels for the same model; None leaves it to the gateway.
    """

    name: str
    upstream: str
    model: str
    served: str
    group: str = "default"
    priority: int | None = None


class Gateway(Protocol):
    """What a gateway's module offers.  `Fields` are in the gateway's own words and form."""

    @property
    def name(self) -> str:
        """The gateway and its address, as messages begin."""
        ...

    def is_up(self) -> bool:
        """Return whether it answers."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait until it answers."""
        ...

    def fields(self, channel: Channel) -> Fields:
        """Return a channel as the gateway keeps it, without its key."""
        ...

    def find(self, name: str) -> list[Fields]:
        """Return the channels that are called so."""
        ...

    @property
    def owner(self) -> str:
        """The mark of the recipe whose channels these are (identity.py)."""
        ...

    def marked(self, found: Fields) -> str | None:
        """Return the owner whom a channel found there names, if it bears our mark.

        That is nothing where a first release put the mark, which named none.
        """
        ...

    def mark(self, found: Fields) -> Fields:
        """Return the fields that put our mark on a channel, and keep what else is in them."""
        ...

    def models(self, found: Fields) -> list[str]:
        """Return the models that a channel found there serves."""
        ...

    def add(self, fields: Fields, key: str) -> None:
        """Add a channel, with our mark."""
        ...

    def change(self, found: Fields, fields: Fields, key: str) -> None:
        """Change a channel; without a key it keeps the one that it has."""
        ...

    def remove(self, found: Fields) -> None:
        """Remove a channel."""
        ...

    def test(self, found: Fields, model: str) -> None:
        """Send a chat request through the channel."""
        ...

    def chat(self, model: str, question: str) -> str | None:
        """Return an answer as clients get it, or None where no key for clients is known."""
        ...


def differences(found: Mapping[str, Any], fields: Mapping[str, Any]) -> list[str]:
    """Return the fields that a channel has otherwise than it should."""
    return [name for name, value in fields.items() if _plain(found.get(name)) != _plain(value)]


def _plain(value: Any) -> Any:
    """Return a value so that what means the same is equal: nothing is an empty list or text."""
    if isinstance(value, list) and value:
        return sorted(map(str, value))
    return "" if value in (None, [], {}, "{}") else value
